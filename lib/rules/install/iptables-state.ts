// What iptables has of a plan.
import type { Family } from '../config/config.ts';
import { chainName, type IptablesTable } from '../text/iptables.ts';
import { NFT_FAMILY } from '../text/nftables.ts';
import { ownChains, parseIptablesSave, SAVE } from './iptables-save.ts';
import { FAMILIES, removalByNft, type InstalledRules } from './nftables-state.ts';
import { isMissing, type Questions } from './questions.ts';
import { readUndo, unreadable, type Undo } from './undo.ts';

export interface InstalledIptables extends InstalledRules<readonly IptablesTable[]> {
  /** Chains from which rules lead into the record. */
  recordJumps: readonly string[];
  /** Tables that iptables cannot show, `ip nat`. */
  hidden: readonly string[];
  /** What removes the plan's chains from those, for `nft -f`. */
  hiddenRemoval: string;
}

/** Where the kernel lists the tables of the older kind. */
const LEGACY_TABLES: Record<Family, string> = {
  IPv4: '/proc/net/ip_tables_names',
  IPv6: '/proc/net/ip6_tables_names',
};

/**
 * What iptables-save of one family prints; undefined if the tool is not there. One that fails counts as absent where
 * others show that there is nothing for it to print: nft has no such chains, and the kernel no tables of the older kind.
 */
async function saved(
  questions: Questions,
  name: string,
  family: Family,
  tables: readonly string[] | undefined,
): Promise<string | undefined> {
  try {
    return await questions.read([SAVE[family]]);
  } catch (error) {
    if (isMissing(error)) return undefined;
    const own = ownChains(name);
    const inNft = tables?.some((entry) => {
      const [of, , chain = ''] = entry.split(' ');
      return of === NFT_FAMILY[family] && own.test(chain);
    });
    if (inNft !== false) throw error;
    const legacy = await questions.read(['cat', LEGACY_TABLES[family]], ({ stderr }) =>
      stderr.includes('No such file or directory') ? '' : undefined,
    );
    if (legacy.trim() !== '') throw error;
    return undefined;
  }
}

/** Does a rule of a listing go on in that chain? */
function goesTo(chain: string, rule: string): boolean {
  return new RegExp(`(?:^| )-[jg] ${chain}$`).test(rule);
}

/** The chains from which rules lead into that chain. */
function leadingTo(chain: string, { jumps, foreign }: IptablesTable): string[] {
  const direct = jumps.filter((jump) => jump.chain === chain);
  return [...direct, ...foreign.filter(({ rule }) => goesTo(chain, rule))].map(({ hook }) => hook);
}

/** What the table has beside that chain. */
function without(chain: string, table: IptablesTable): IptablesTable {
  return {
    table: table.table,
    chains: new Map([...table.chains].filter(([each]) => each !== chain)),
    jumps: table.jumps.filter((jump) => jump.chain !== chain),
    foreign: table.foreign.filter(({ rule }) => !goesTo(chain, rule)),
  };
}

function commentOf(rule: string): string {
  return /^-m comment --comment "([^"]*)" -j RETURN$/.exec(rule)?.[1] ?? rule;
}

/**
 * Without the tools undefined; `required`, a list of families, must answer.
 *
 * @throws `ERR_RULES_UNREADABLE` and what keeps the tools from answering
 */
export async function readIptables(
  questions: Questions,
  name: string,
  required: readonly Family[] | undefined,
  tables: readonly string[] | undefined,
): Promise<Omit<InstalledIptables, 'undo'> | undefined> {
  const own = ownChains(name);
  const recordChain = chainName(name, 'record');
  const there = {
    rules: {} as Partial<Record<Family, readonly IptablesTable[]>>,
    record: undefined as Undo | undefined,
    recordJumps: [] as string[],
    hidden: [] as string[],
    hiddenRemoval: '',
  };
  let answered = false;
  for (const family of FAMILIES) {
    const text = await saved(questions, name, family, tables);
    if (text === undefined) {
      // The record is kept in IPv4's table, whatever the plan's families.
      if (required !== undefined && (family === 'IPv4' || required.includes(family)))
        await questions.read([SAVE[family]]);
      continue;
    }
    answered = true;
    const listed = parseIptablesSave(name, text);
    const filter = family === 'IPv4' ? listed.tables.find(({ table }) => table === 'filter') : undefined;
    const record = filter?.chains.get(recordChain);
    if (record !== undefined) {
      const remedy = `iptables -F ${recordChain}; iptables -X ${recordChain}`;
      there.record = readUndo(record.map(commentOf), recordChain, remedy);
      there.recordJumps = leadingTo(recordChain, filter!);
    }
    const rules = listed.tables
      .map((entry) => (entry === filter ? without(recordChain, entry) : entry))
      .filter(({ chains }) => chains.size > 0);
    if (record !== undefined || rules.length > 0) there.rules[family] = rules;
    for (const table of listed.hidden) {
      const entry = `${NFT_FAMILY[family]} ${table}`;
      there.hidden.push(entry);
      if (tables === undefined || tables.includes(`${entry} ${recordChain}`)) {
        throw unreadable(
          `iptables cannot show its table ${table}: somebody has put a rule of nft's own kind into it`,
          `remove that rule: nft -a list table ${entry}`,
        );
      }
      there.hiddenRemoval += await removalByNft(questions, entry, own);
    }
  }
  return answered ? there : undefined;
}
