// What nftables intercepts, read off `nft -j list ruleset`.
import type { Found, FoundRule } from './found-rules.ts';
import { Hooks } from './hooks.ts';

interface Target {
  addr?: unknown;
  port?: unknown;
  family?: string;
}

interface NftExpression {
  counter?: { packets: number };
  redirect?: Target | null;
  dnat?: Target;
  tproxy?: Target;
  match?: {
    op?: string;
    left: { meta?: { key: string }; fib?: unknown; socket?: { key: string } };
    right: unknown;
  };
  mangle?: { key: { meta?: { key: string } }; value: unknown };
  jump?: { target: string };
  goto?: { target: string };
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

/** What the rules of a chain have let pass so far. */
interface Passed {
  spared: string[];
  localOnly: boolean;
}

/** Learns from a rule that ends in `return` or `accept`, if it asks for nothing but an interface or a kind of address. */
function note(parts: readonly NftExpression[], passed: Passed): void {
  if (!parts.some((part) => 'return' in part || 'accept' in part)) return;
  const conditions = parts.flatMap(({ match }) => match ?? []);
  const [only] = conditions;
  if (only === undefined || conditions.length > 1) return;
  if (only.op !== '!=' && only.left.meta?.key === 'iifname') passed.spared.push(...names(only.right));
  if (only.op === '!=' && only.left.fib !== undefined && only.right === 'local') passed.localOnly = true;
}

type Capture = Omit<FoundRule, 'via' | 'hooks' | 'priority' | 'spared' | 'localOnly' | 'place'>;

function fromExpressions(parts: NftExpression[], families: readonly (4 | 6)[]): Capture | undefined {
  let interfaces: string[] = [];
  let packets: number | undefined;
  let mark: number | undefined;
  let kind: FoundRule['kind'] | undefined;
  let target: Target = {};
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

/** Reads `nft -j list ruleset`. */
export function parseNftables(json: string): Found & { native: boolean; compat: boolean } {
  const { nftables } = JSON.parse(json) as { nftables: NftObject[] };
  const chains = new Map<string, NftObject['chain']>();
  const hooks = new Hooks();
  const passed = new Map<string, Passed>();
  const found: Found & { native: boolean; compat: boolean } = {
    rules: [],
    cgroups: [],
    native: false,
    compat: false,
  };
  const captures: [chain: string, rule: Omit<FoundRule, 'hooks'>][] = [];
  for (const { chain, rule } of nftables) {
    if (chain) {
      const id = `${chain.family} ${chain.table} ${chain.name}`;
      chains.set(id, chain);
      if (chain.hook !== undefined) hooks.base(id, chain.hook);
    }
    if (!rule) continue;
    if (rule.expr.some((part) => 'xt' in part)) {
      found.compat = true;
      continue;
    }
    found.native = true;
    const table = `${rule.family} ${rule.table}`;
    const id = `${table} ${rule.chain}`;
    const place = `${table} / ${rule.chain}`;
    for (const { match, jump, goto: gone } of rule.expr) {
      const target = (jump ?? gone)?.target;
      if (target !== undefined) hooks.jump(id, `${table} ${target}`);
      if (match?.left.socket?.key === 'cgroupv2')
        found.cgroups.push({ cgroup: String(match.right), loaded: undefined, place });
    }
    const before = passed.get(id) ?? { spared: [], localOnly: false };
    passed.set(id, before);
    const capture = fromExpressions(rule.expr, FAMILIES[rule.family] ?? []);
    if (!capture) {
      note(rule.expr, before);
      continue;
    }
    const { localOnly } = before;
    const priority = chains.get(id)?.prio;
    const more = { via: 'nftables', priority, spared: [...before.spared], localOnly, place } as const;
    captures.push([id, { ...capture, ...more }]);
  }
  found.rules = captures.map(([id, rule]) => ({ ...rule, hooks: hooks.of(id) }));
  return found;
}
