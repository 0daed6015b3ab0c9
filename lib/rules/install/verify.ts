// verify(): is what is installed what the plan says?
import type { Family } from '../config/config.ts';
import { nftRecord } from './commands.ts';
import type { Installed } from './installed.ts';
import { chainName, type IptablesTable } from '../text/iptables.ts';
import { NFT_FAMILY, nftTable, type NftLines } from '../text/nftables.ts';
import { ipRoute, ipRule, tablesOf } from '../text/routing.ts';
import { routeKey, ruleKey, type Listed } from './listed-routing.ts';
import { FAMILIES } from './nftables-state.ts';
import { printable } from './printable.ts';
import { checkShown, type Target } from './target.ts';
import { NOTHING_TO_UNDO, writeUndo, type Undo } from './undo.ts';
import type { Difference } from '../types.ts';

type Lists = ReadonlyMap<string, readonly string[]>;

/** Sets have no order; nft lists them in one of its own, which depends on the machine's byte order. */
function sortSets(line: string): string {
  return line.replaceAll(
    /\{ (.*?) \}/g,
    (_, elements: string) => `{ ${elements.split(', ').sort().join(', ')} }`,
  );
}

/** The chains of a table, each with its lines; the first is its hook. */
function nftChains(lines: NftLines): Lists {
  const chains = new Map<string, string[]>();
  let current: string[] = [];
  for (const line of lines) {
    const [, chain] = /^chain (\S+) \{$/.exec(line) ?? [];
    if (chain !== undefined) chains.set(chain, (current = []));
    else if (line !== '}') current.push(sortSets(line));
  }
  return chains;
}

function compareLines(
  where: string,
  expected: readonly string[],
  found: readonly string[],
): Difference | undefined {
  const length = Math.max(expected.length, found.length);
  for (let i = 0; i < length; i++) {
    if (expected[i] !== found[i])
      return { where: `${where}, line ${i + 1}`, expected: expected[i], found: found[i] };
  }
  return undefined;
}

function compareChains(where: string, expected: Lists, found: Lists): Difference | undefined {
  for (const chain of new Set([...expected.keys(), ...found.keys()])) {
    const name = `${where}, chain ${chain}`;
    const [wanted, there] = [expected.get(chain), found.get(chain)];
    if (wanted === undefined || there === undefined) {
      return { where: name, expected: wanted && 'the chain', found: there && 'the chain' };
    }
    const difference = compareLines(name, wanted, there);
    if (difference !== undefined) return difference;
  }
  return undefined;
}

function nftablesDifference(target: Target, installed: Installed): Difference | undefined {
  for (const family of FAMILIES) {
    const where = `nft table ${NFT_FAMILY[family]} ${nftTable(installed.name)}`;
    const [expected, found] = [target.nftables[family] ?? [], installed.nftables?.rules[family] ?? []];
    if (expected.length > 0 && found.length === 0) return { where, expected: 'the table', found: undefined };
    const difference = compareChains(where, nftChains(expected), nftChains(found));
    if (difference !== undefined) return difference;
    if (installed.nftables!.odd.includes(family))
      return {
        where,
        expected: 'chains and rules',
        found: 'more than its lines show: comments over several lines',
      };
  }
  const { record, recordLines } = installed.nftables!;
  if (record === undefined) return undefined;
  const where = `nft table ip ${nftTable(installed.name)}, chain record`;
  return compareLines(where, nftRecord(record), recordLines) ?? recordDifference(where, target, record);
}

/** What a record says must be what the target needs; somebody who printed the rules has none. */
function recordDifference(where: string, target: Target, record: Undo): Difference | undefined {
  const facts = (undo: Pick<Undo, 'routes'>): string[] =>
    writeUndo({ ...NOTHING_TO_UNDO, routes: undo.routes }).sort();
  return compareLines(where, facts(target), facts(record));
}

/** The chains of a table, and the jumps to them as those of the built-in chains. */
function iptablesChains({ chains, jumps }: Pick<IptablesTable, 'chains' | 'jumps'>): Lists {
  const builtIn = new Map<string, string[]>();
  for (const { hook, chain } of jumps) builtIn.set(hook, [...(builtIn.get(hook) ?? []), `-j ${chain}`]);
  return new Map([...chains, ...builtIn]);
}

function iptablesDifference(target: Target, installed: Installed): Difference | undefined {
  const none = { chains: new Map(), jumps: [] };
  const { record, recordJumps } = installed.iptables!;
  for (const family of FAMILIES) {
    const [expected, found] = [target.iptables[family] ?? [], installed.iptables?.rules[family] ?? []];
    for (const table of new Set([...expected, ...found].map((entry) => entry.table))) {
      const of = (tables: readonly IptablesTable[]): Lists =>
        iptablesChains(tables.find((entry) => entry.table === table) ?? none);
      const where = `${family === 'IPv4' ? 'iptables' : 'ip6tables'} -t ${table}`;
      const difference = compareChains(where, of(expected), of(found));
      if (difference !== undefined) return difference;
      const foreign = found.find((entry) => entry.table === table)!.foreign[0];
      if (foreign !== undefined)
        return { where: `${where}, chain ${foreign.hook}`, expected: undefined, found: foreign.rule };
    }
  }
  if (record === undefined) return undefined;
  const where = `iptables -t filter, chain ${chainName(installed.name, 'record')}`;
  if (recordJumps.length > 0)
    return { where, expected: undefined, found: `rules that lead to it from ${recordJumps.join(', ')}` };
  return recordDifference(where, target, record);
}

function listedDifference(
  where: string,
  expected: string,
  listed: readonly Listed[] | undefined,
): Difference | undefined {
  const foreign = listed?.find(({ own }) => !own);
  if (listed?.some(({ own }) => own) && foreign === undefined) return undefined;
  return { where, expected, found: foreign?.text };
}

function routingDifference(target: Target, installed: Installed): Difference | undefined {
  const without = (command: readonly string[], words: number): string => command.slice(words).join(' ');
  const flag = (family: Family): string => ipRule('add', { family, mark: 0, table: 0 })[1]!;
  for (const route of target.routes) {
    const where = `ip ${flag(route.family)} rule`;
    const difference = listedDifference(
      where,
      without(ipRule('add', route), 4),
      installed.rules.get(ruleKey(route)),
    );
    if (difference !== undefined) return difference;
  }
  for (const table of tablesOf(target.routes)) {
    const where = `ip ${flag(table.family)} route show table ${table.table}`;
    const difference = listedDifference(
      where,
      without(ipRoute('add', table), 4),
      installed.routes.get(routeKey(table)),
    );
    if (difference !== undefined) return difference;
  }
  return undefined;
}

function sysctlDifference(target: Target, installed: Installed): Difference | undefined {
  for (const { key, value } of target.sysctls) {
    const found = installed.sysctls.get(key);
    if (found !== value) return { where: `/proc/sys/${key}`, expected: value, found };
  }
  return undefined;
}

function twice(target: Target, installed: Installed): Difference | undefined {
  const other = target.backend === 'nftables' ? 'iptables' : 'nftables';
  const rules = Object.values(installed[other]?.rules ?? {});
  if (rules.every((entry) => entry.length === 0)) return undefined;
  return { where: other, expected: undefined, found: `rules of ${installed.name} as well` };
}

/** The first difference between a target and what is installed. */
export function firstDifference(target: Target, installed: Installed): Difference | undefined {
  checkShown(target, installed);
  const difference =
    (target.backend === 'nftables' ? nftablesDifference : iptablesDifference)(target, installed) ??
    twice(target, installed) ??
    routingDifference(target, installed) ??
    sysctlDifference(target, installed);
  const { found } = difference ?? {};
  return difference && found !== undefined ? { ...difference, found: printable(found) } : difference;
}
