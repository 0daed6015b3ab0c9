// The chains of this network namespace that drop what no rule of theirs accepts: firewalls.
import type { Host } from './host.ts';
import type { StepResult } from '../rules/types.ts';

/** A base chain at INPUT or OUTPUT that drops by default. */
export interface FoundFilter {
  via: 'nftables' | 'iptables';
  families: readonly (4 | 6)[];
  hook: 'input' | 'output';
  /** Where to find it: `inet filter / input`, `filter / INPUT`. */
  place: string;
  /** TCP ports and marks that some rule of its table accepts, in whatever chain. */
  acceptedPorts: readonly number[];
  acceptedMarks: readonly number[];
  /** The command that puts a rule in front of all others, up to the condition. */
  insert: string;
}

interface Match {
  left?: { payload?: { protocol?: string; field?: string }; meta?: { key?: string } };
  right?: unknown;
}
type Part = { match?: Match } & Record<string, unknown>;
interface NftObject {
  chain?: { family: string; table: string; name: string; hook?: string; type?: string; policy?: string };
  rule?: { family: string; table: string; chain: string; expr: Part[] };
}

const FAMILIES: Record<string, readonly (4 | 6)[]> = { ip: [4], ip6: [6], inet: [4, 6] };
const DROPS = ['drop', 'reject'];

/** The numbers that a condition allows: `22`, `{ 22, 80 }`. Ranges are not looked into. */
function numbers(right: unknown): number[] {
  const set = (right as { set?: unknown[] } | null)?.set ?? [right];
  return set.filter((entry) => typeof entry === 'number');
}

/** What the accepting rules of a table let pass, by the port or the mark. */
function accepted(rules: readonly Part[][], is: (left: NonNullable<Match['left']>) => boolean): number[] {
  return rules
    .filter((parts) => parts.some((part) => 'accept' in part))
    .flatMap((parts) =>
      parts.flatMap(({ match }) => (match?.left && is(match.left) ? numbers(match.right) : [])),
    );
}

/** Reads `nft -j list ruleset`; tables of iptables-nft are left to {@link iptablesFilters}. */
function nftFilters(json: string): FoundFilter[] {
  const { nftables } = JSON.parse(json) as { nftables: NftObject[] };
  const rules = nftables.flatMap(({ rule }) => (rule ? [rule] : []));
  return nftables.flatMap(({ chain }) => {
    if (!chain || chain.type !== 'filter' || (chain.hook !== 'input' && chain.hook !== 'output')) return [];
    const families = FAMILIES[chain.family];
    const ofTable = rules.filter(({ family, table }) => family === chain.family && table === chain.table);
    const isCompat = ofTable.some(({ expr }) => expr.some((part) => 'xt' in part));
    const last = ofTable.findLast((rule) => rule.chain === chain.name)?.expr ?? [];
    const endsInDrop =
      last.some((part) => DROPS.some((verdict) => verdict in part)) && !last.some((part) => 'match' in part);
    if (!families || isCompat || (chain.policy !== 'drop' && !endsInDrop)) return [];
    const expressions = ofTable.map(({ expr }) => expr);
    return {
      via: 'nftables' as const,
      families,
      hook: chain.hook,
      place: `${chain.family} ${chain.table} / ${chain.name}`,
      acceptedPorts: accepted(
        expressions,
        ({ payload }) => payload?.protocol === 'tcp' && payload.field === 'dport',
      ),
      acceptedMarks: accepted(expressions, ({ meta }) => meta?.key === 'mark'),
      insert: `nft insert rule ${chain.family} ${chain.table} ${chain.name}`,
    };
  });
}

/** Reads `iptables-save` or `ip6tables-save`. */
export function iptablesFilters(saved: string, family: 4 | 6, program: string): FoundFilter[] {
  const filter = /^\*filter\n(.*?)^COMMIT$/ms.exec(saved)?.[1] ?? '';
  const accepting = filter.split('\n').filter((line) => line.endsWith('-j ACCEPT'));
  const all = (pattern: RegExp): number[] =>
    accepting.flatMap((line) => (pattern.exec(line)?.[1] ?? '').split(',').filter(Boolean).map(Number));
  return (['INPUT', 'OUTPUT'] as const).flatMap((name) => {
    const last = filter.match(new RegExp(`^-A ${name} .*$`, 'gm'))?.at(-1) ?? '';
    const endsInDrop = new RegExp(`^-A ${name} -j (DROP|REJECT)`).test(last);
    if (!endsInDrop && !filter.includes(`:${name} DROP `)) return [];
    return {
      via: 'iptables' as const,
      families: [family],
      hook: name.toLowerCase() as FoundFilter['hook'],
      place: `filter / ${name}`,
      acceptedPorts: all(/ --dports? ([\d,]+) /),
      acceptedMarks: all(/ --mark (0x[\da-f]+)/),
      insert: `${program} -I ${name}`,
    };
  });
}

/** All of them, of both back-ends; `listed`: `nft -j list ruleset`. */
export async function findFilters(host: Host, listed: StepResult): Promise<FoundFilter[]> {
  const found = listed.status === 0 ? nftFilters(listed.stdout) : [];
  for (const [family, name] of [
    [4, 'iptables'],
    [6, 'ip6tables'],
  ] as const) {
    const legacy = host.read(`/proc/net/${family === 4 ? 'ip' : 'ip6'}_tables_names`) ?? '';
    // Only where there is something of theirs: the legacy program loads kernel modules when it runs.
    const programs = [
      ...(listed.status !== 0 || listed.stdout.includes('"xt"') ? [name] : []),
      ...(legacy.includes('filter') ? [`${name}-legacy`] : []),
    ];
    for (const program of programs) {
      const saved = await host.run(`${program}-save`, []);
      if (saved.status === 0) found.push(...iptablesFilters(saved.stdout, family, program));
    }
  }
  return found;
}
