// The rules of this network namespace that lead connections to a port of this host.
import type { Host } from './host.ts';

/** A rule of this network namespace that sends connections to a port of this host. */
export interface FoundRule {
  via: 'nftables' | 'iptables';
  families: readonly (4 | 6)[];
  kind: 'redirect' | 'tproxy' | 'dnat';
  /** Undefined where the rule keeps the port, or takes it from a map. */
  port: number | undefined;
  /** The address it sends to, where it names one. */
  address: string | undefined;
  /** The mark that the same rule sets. */
  mark: number | undefined;
  /** How many packets it has matched; undefined where it has no counter. */
  packets: number | undefined;
  /** The chain's hook in small letters (`output`, `prerouting`); undefined for a chain that others jump to. */
  hook: string | undefined;
  /** The chain's priority in its hook; undefined for iptables, whose chains are all at one. */
  priority: number | undefined;
  /** The interfaces that it is for, `veth*` or `veth+` for several; none: all. */
  interfaces: readonly string[];
  /** Where to find it: `inet istio / output`, `nat / OUTPUT`. */
  place: string;
}

export interface FoundRules {
  /** False where the kernel did not let us read them. */
  readable: boolean;
  rules: FoundRule[];
  /** Are there tables of nftables that iptables-nft did not make? */
  nativeTables: boolean;
  /** Are there rules of iptables-nft? */
  compatTables: boolean;
  /** The tables of the legacy iptables kernel interface: `nat`, `mangle`. */
  legacyTables: string[];
}

interface NftExpression {
  counter?: { packets: number };
  redirect?: { port?: unknown } | null;
  dnat?: { addr?: unknown; port?: unknown; family?: string };
  tproxy?: { addr?: unknown; port?: unknown; family?: string };
  match?: { left: { meta?: { key: string } }; right: unknown };
  mangle?: { key: { meta?: { key: string } }; value: unknown };
  xt?: unknown;
}

interface NftObject {
  chain?: { family: string; table: string; name: string; hook?: string; prio?: number };
  rule?: { family: string; table: string; chain: string; expr: NftExpression[] };
}

const FAMILIES: Record<string, readonly (4 | 6)[]> = { ip: [4], ip6: [6], inet: [4, 6] };

const whole = (value: unknown) => (typeof value === 'number' ? value : undefined);
/** `"eth0"`, `{ "eth0", "veth*" }` */
const names = (right: unknown): string[] =>
  typeof right === 'string' ? [right] : ((right as { set?: string[] }).set ?? []);
const text = (value: unknown) => (typeof value === 'string' ? value : undefined);

/** Reads `nft -j list ruleset`. */
export function parseNftables(json: string): { rules: FoundRule[]; native: boolean; compat: boolean } {
  const { nftables } = JSON.parse(json) as { nftables: NftObject[] };
  const chains = new Map<string, NftObject['chain']>();
  const rules: FoundRule[] = [];
  let native = false;
  let compat = false;
  for (const { chain, rule } of nftables) {
    if (chain) chains.set(`${chain.family} ${chain.table} ${chain.name}`, chain);
    if (!rule) continue;
    if (rule.expr.some((part) => 'xt' in part)) {
      compat = true;
      continue;
    }
    native = true;
    const found = fromExpressions(rule.expr, FAMILIES[rule.family] ?? []);
    if (!found) continue;
    const { hook, prio: priority } = chains.get(`${rule.family} ${rule.table} ${rule.chain}`) ?? {};
    const place = `${rule.family} ${rule.table} / ${rule.chain}`;
    rules.push({ ...found, via: 'nftables', hook, priority, place });
  }
  return { rules, native, compat };
}

function fromExpressions(
  parts: NftExpression[],
  families: readonly (4 | 6)[],
): Omit<FoundRule, 'via' | 'hook' | 'priority' | 'place'> | undefined {
  let interfaces: string[] = [];
  let packets: number | undefined;
  let mark: number | undefined;
  let kind: FoundRule['kind'] | undefined;
  let target: { addr?: unknown; port?: unknown; family?: string } = {};
  for (const part of parts) {
    if (part.counter) packets = part.counter.packets;
    if (part.match?.left.meta?.key === 'iifname') interfaces = names(part.match.right);
    if (part.mangle?.key.meta?.key === 'mark') mark = whole(part.mangle.value);
    for (const name of ['redirect', 'tproxy', 'dnat'] as const) {
      if (!(name in part)) continue;
      kind = name;
      target = part[name] ?? {};
    }
  }
  if (kind === undefined) return undefined;
  return {
    kind,
    families: (target.family && FAMILIES[target.family]) || families,
    port: whole(target.port),
    address: text(target.addr),
    mark,
    packets,
    interfaces,
  };
}

const SAVED_RULE = /^\[(\d+):\d+\] -A (\S+) (.*)-j (REDIRECT|TPROXY|DNAT)\b(.*)$/;
type SavedRule = [packets: string, chain: string, conditions: string, target: string, rest: string];
const BUILT_IN = new Set(['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING']);

/** Reads `iptables-save -c` or `ip6tables-save -c`. */
export function parseIptables(saved: string, family: 4 | 6): FoundRule[] {
  const rules: FoundRule[] = [];
  let table = '';
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1);
    const match = SAVED_RULE.exec(line);
    if (!match) continue;
    const [packets, chain, conditions, target, rest] = match.slice(1) as SavedRule;
    const from = /(?:^| )-i (\S+)/.exec(conditions)?.[1];
    const option = (name: string) => new RegExp(`--${name} (\\S+)`).exec(rest)?.[1];
    const to = /^\[?(.*?)\]?(?::(\d+))?$/.exec(option('to-destination') ?? '');
    const port = option('to-ports') ?? option('on-port') ?? to?.[2];
    const mark = option('tproxy-mark')?.split('/')[0];
    const address = option('on-ip') ?? to?.[1];
    rules.push({
      via: 'iptables',
      families: [family],
      kind: target.toLowerCase() as FoundRule['kind'],
      port: port === undefined ? undefined : Number.parseInt(port, 10),
      address: address === undefined || address === '' ? undefined : address,
      mark: mark === undefined ? undefined : Number(mark),
      packets: Number(packets),
      hook: BUILT_IN.has(chain) ? chain.toLowerCase() : undefined,
      priority: undefined,
      interfaces: from === undefined ? [] : [from],
      place: `${table} / ${chain}`,
    });
  }
  return rules;
}

/** The first of some commands that is there and works. */
async function save(host: Host, ...commands: string[]): Promise<string> {
  for (const command of commands) {
    const { status, stdout } = await host.run(command, ['-c']);
    if (status === 0) return stdout;
  }
  return '';
}

/**
 * All rules of this network namespace that intercept, whoever made them. Asks the two iptables programs only where
 * there is something of theirs: the legacy one loads kernel modules when it runs.
 */
export async function findRules(host: Host): Promise<FoundRules> {
  const legacyTables = ['ip', 'ip6'].flatMap((family) =>
    (host.read(`/proc/net/${family}_tables_names`) ?? '').split('\n').filter((name) => name !== ''),
  );
  const listed = await host.run('nft', ['-j', 'list', 'ruleset']);
  const nft =
    listed.status === 0 ? parseNftables(listed.stdout) : { rules: [], native: false, compat: false };
  const rules = [...nft.rules];
  for (const [family, prefix] of [
    [4, 'iptables'],
    [6, 'ip6tables'],
  ] as const) {
    // Without nft(8) the rules of iptables-nft are not seen; then the plain program is asked instead.
    if (nft.compat || listed.status === null) {
      rules.push(...parseIptables(await save(host, `${prefix}-nft-save`, `${prefix}-save`), family));
    }
    if (legacyTables.length > 0) {
      rules.push(...parseIptables(await save(host, `${prefix}-legacy-save`), family));
    }
  }
  return {
    readable: listed.status === 0 || (listed.status === null && rules.length > 0),
    rules,
    nativeTables: nft.native,
    compatTables: nft.compat,
    legacyTables: [...new Set(legacyTables)],
  };
}
