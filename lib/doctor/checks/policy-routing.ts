// Are there the policy routes that TPROXY needs?
import type { Check, Context } from '../context.ts';
import { type Finding, Findings } from '../finding.ts';
import { sysctl } from '../sysctl.ts';

type Family = 4 | 6;

/** Addresses for documentation (RFC 5737, RFC 3849): never this host's own. */
const ELSEWHERE: Record<Family, string> = { 4: '198.51.100.1', 6: '2001:db8::1' };

interface IpRule {
  priority: number;
  fwmark?: string;
  fwmask?: string;
  table?: string;
}
interface IpRoute {
  type?: string;
  dst?: string;
}

/** What ip(8) answers with `-j`, or why it gives no answer. No route, no table: an empty answer. */
async function ip<T>({ host }: Context, family: Family, ...args: string[]): Promise<T[] | string> {
  const { status, stdout, stderr } = await host.run('ip', [`-${family}`, '-j', ...args]);
  if (status === null) return 'There is no ip(8).';
  // BusyBox's knows no JSON, neither marks in `route get`: whatever it says would be misread.
  if (/busybox|usage:|unrecognized|invalid option/i.test(stderr))
    return 'This ip(8) is not that of iproute2.';
  return status === 0 && stdout.trim() !== '' ? (JSON.parse(stdout) as T[]) : [];
}

/** The same where the first question has shown that ip(8) answers. */
async function answers<T>(context: Context, family: Family, ...args: string[]): Promise<T[]> {
  const found = await ip<T>(context, family, ...args);
  return typeof found === 'string' ? [] : found;
}

/** Where would a packet with this mark go? Asked of the kernel, so that order and masks of the rules are minded. */
async function staysHere(context: Context, family: Family, mark: number): Promise<boolean> {
  const asked = await answers<IpRoute>(context, family, 'route', 'get', ELSEWHERE[family], 'mark', `${mark}`);
  return asked[0]?.type === 'local';
}

function matches({ fwmark, fwmask }: IpRule, mark: number): boolean {
  if (fwmark === undefined) return false;
  const mask = fwmask === undefined ? 0xffffffff : Number(fwmask);
  return (mark & mask) === (Number(fwmark) & mask);
}

/** Why a mark that has a rule does not lead to this host, and what to do: its table is empty, or it is not reached. */
async function misled(
  context: Context,
  family: Family,
  mark: number,
  rules: readonly IpRule[],
  own: IpRule,
): Promise<readonly [title: string, remedy: string]> {
  const ipN = `ip -${family}`;
  const table = own.table ?? 'main';
  const routes = await answers<IpRoute>(context, family, 'route', 'show', 'table', table);
  if (!routes.some(({ type, dst }) => type === 'local' && dst === 'default')) {
    const remedy = `${ipN} route add local default dev lo table ${table}`;
    return [`mark ${mark} has a rule, but its table has no local route`, remedy];
  }
  const earlier = rules.filter(
    (rule) =>
      rule.priority > 0 && rule.priority < own.priority && (rule.fwmark === undefined || matches(rule, mark)),
  );
  const first = earlier[0]?.priority ?? own.priority;
  const names = earlier.map((rule) => `${rule.priority} (table ${rule.table ?? 'none'})`).join(', ');
  return [
    `mark ${mark} has a rule, but an earlier one takes its packets: ${names}`,
    `${ipN} rule add fwmark ${mark} lookup ${table} priority ${Math.max(1, first - 1)}`,
  ];
}

async function checkFamily(context: Context, family: Family, known: readonly number[]): Promise<Finding> {
  const finding = new Findings(`policy-routing-ipv${family}`);
  const rules = await ip<IpRule>(context, family, 'rule');
  if (typeof rules === 'string') {
    return finding.warning('the routing rules cannot be read', rules, 'apt-get install iproute2');
  }
  const ruled = rules.flatMap(({ fwmark }) => (fwmark === undefined ? [] : [Number(fwmark)]));
  // The mark may be set by another rule than the one with TPROXY; then any mark that routes to here will do.
  const marks = known.length > 0 ? known : ruled;
  const working: number[] = [];
  for (const mark of marks) if (await staysHere(context, family, mark)) working.push(mark);
  const missing = known.filter((mark) => !working.includes(mark));
  if (working.length > 0 && missing.length === 0) {
    return finding.ok(
      `mark ${working.join(', ')} routes to this host`,
      `Packets to any IPv${family} address with the mark are delivered here, as TPROXY needs it.`,
    );
  }
  const mark = missing[0] ?? 1;
  const own = rules.find((rule) => matches(rule, mark));
  const ipN = `ip -${family}`;
  const [title, remedy] = own
    ? await misled(context, family, mark, rules, own)
    : [
        `no routing rule for mark ${mark}`,
        `${ipN} rule add fwmark ${mark} lookup 133 && ${ipN} route add local default dev lo table 133`,
      ];
  return finding.problem(
    title,
    'Packets that TPROXY has marked are routed on instead of being delivered here: clients get no answer, the proxy sees nothing.',
    remedy,
  );
}

/** `ip rule fwmark M lookup T` and `ip route local default dev lo table T`, without which TPROXY catches nothing. */
export const policyRouting: Check = async (context) => {
  if (!(await context.tproxyWanted())) return [];
  const rules = (await context.rulesInQuestion()).filter(({ kind }) => kind === 'tproxy');
  const findings: Finding[] = [];
  for (const family of [4, 6] as const) {
    if (family === 6 && sysctl(context.host, 'net.ipv6.conf.all.disable_ipv6') !== 0) continue;
    const own = rules.filter(({ families }) => families.includes(family));
    if (rules.length > 0 && own.length === 0) continue;
    const { mark } = context.subject;
    const marks = mark === undefined ? own.flatMap((rule) => rule.mark ?? []) : [mark];
    findings.push(await checkFamily(context, family, [...new Set(marks)]));
  }
  return findings;
};
