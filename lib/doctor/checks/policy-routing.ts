import type { Check, Context } from '../context.ts';
import { type Finding, Findings } from '../finding.ts';
import { sysctl } from '../sysctl.ts';

type Family = 4 | 6;

/** Addresses for documentation (RFC 5737, RFC 3849): never this host's own. */
const ELSEWHERE: Record<Family, string> = { 4: '198.51.100.1', 6: '2001:db8::1' };

interface IpRule {
  fwmark?: string;
}
interface IpRoute {
  type?: string;
  dev?: string;
}

/** ip(8) with `-j`; nothing where it fails, as for a destination that has no route. */
async function ip<T>({ host }: Context, family: Family, ...args: string[]): Promise<T[] | undefined> {
  const { status, stdout } = await host.run('ip', [`-${family}`, '-j', ...args]);
  if (status === null) return undefined;
  return status === 0 && stdout.trim() !== '' ? (JSON.parse(stdout) as T[]) : [];
}

/** Where would a packet with this mark go? Asked of the kernel, so that order and masks of the rules are minded. */
async function staysHere(context: Context, family: Family, mark: number): Promise<boolean> {
  const [route] =
    (await ip<IpRoute>(context, family, 'route', 'get', ELSEWHERE[family], 'mark', `${mark}`)) ?? [];
  return route?.type === 'local';
}

async function checkFamily(context: Context, family: Family, known: readonly number[]): Promise<Finding> {
  const finding = new Findings(`policy-routing-ipv${family}`);
  const rules = await ip<IpRule>(context, family, 'rule');
  if (rules === undefined) {
    return finding.warning(
      'the routing rules cannot be read',
      'There is no ip(8).',
      'apt-get install iproute2',
    );
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
  const ipN = `ip -${family}`;
  const hasRule = ruled.includes(mark);
  return finding.problem(
    hasRule
      ? `mark ${mark} has a rule, but its table has no local route`
      : `no routing rule for mark ${mark}`,
    `Packets that TPROXY has marked are routed on instead of being delivered here: clients get no answer, the proxy sees nothing.`,
    hasRule
      ? `${ipN} route add local default dev lo table "$(${ipN} rule | sed -n 's/.*fwmark 0x${mark.toString(16)}.* lookup //p')"`
      : `${ipN} rule add fwmark ${mark} lookup 133 && ${ipN} route add local default dev lo table 133`,
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
