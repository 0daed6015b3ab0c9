// What nftables has: the tables and chains of all owners, and the lines of the plan's own tables.
import type { Family } from '../config/config.ts';
import { NFT_FAMILY, nftTable, parseNftTable, type NftLines } from '../text/nftables.ts';
import { printable } from './printable.ts';
import type { Questions } from './questions.ts';
import { readUndo, unreadable, type Undo } from './undo.ts';

export const FAMILIES: readonly Family[] = ['IPv4', 'IPv6'];

/** What of a plan is there in one back-end. */
export interface InstalledRules<Rules> {
  rules: Partial<Record<Family, Rules>>;
  /** What is written in the record; undefined: there is none. */
  record: Undo | undefined;
  /** What there is to undo: the record, and what it lost. */
  undo: Undo;
}

export interface InstalledNftables extends InstalledRules<NftLines> {
  /** The lines of the record's chain, its hook and all. */
  recordLines: NftLines;
  /** The families whose tables hold what their lines do not show: comments over several lines, sets. */
  odd: readonly Family[];
}

export interface NftablesState extends Omit<InstalledNftables, 'undo'> {
  /** Tables and chains of all owners: `ip nat`, `ip nat OUTPUT`. */
  tables: readonly string[];
}

/** An object of a listing: a table, a chain, a rule, … */
export interface NftEntry {
  kind: string;
  family: string;
  table: string;
  chain: string;
  name: string;
  hook: string | undefined;
  handle: number;
  policy: string | undefined;
  comment: string | undefined;
  expr: readonly unknown[];
}

function readEntry(object: Record<string, unknown>): NftEntry {
  const [[kind, fields] = ['', {}]] = Object.entries(object);
  const { family, table, chain, name, hook, policy, handle, comment, expr } = fields as Record<
    string,
    unknown
  >;
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  return {
    kind,
    family: text(family),
    table: text(table),
    chain: text(chain),
    name: text(name),
    hook: hook === undefined ? undefined : text(hook),
    handle: typeof handle === 'number' ? handle : Number.NaN,
    policy: policy === undefined ? undefined : text(policy),
    comment: comment === undefined ? undefined : text(comment),
    expr: Array.isArray(expr) ? expr.filter((part) => typeof part === 'object' && part !== null) : [],
  };
}

/** Asks nft for a list in JSON. Its text would do but for names and comments: they may hold lines that look like it. */
async function nftList(questions: Questions, ...what: string[]): Promise<NftEntry[]> {
  const objects = await questions.objects(
    ['nft', '-j', '-s', 'list', ...what],
    (json) => (json as { nftables?: unknown }).nftables,
  );
  return objects.map(readEntry).filter(({ kind }) => kind !== 'metainfo');
}

/** The comment of a rule of the record. */
function factOf({ expr, comment }: NftEntry): string {
  const only = JSON.stringify(expr) === '[{"return":null}]';
  return only && comment !== undefined ? comment : `a rule of another kind: ${JSON.stringify(expr)}`;
}

/** Takes the record's chain out of a table's lines. */
function splitRecord(lines: NftLines): { rules: NftLines; recordLines: NftLines } {
  const start = lines.indexOf('chain record {');
  if (start < 0) return { rules: lines, recordLines: [] };
  const end = lines.indexOf('}', start) + 1;
  return { rules: [...lines.slice(0, start), ...lines.slice(end)], recordLines: lines.slice(start, end) };
}

/** How many lines nft needs for a table's chains and rules. */
function linesOf(entries: readonly NftEntry[]): number {
  const needed: Record<string, (entry: NftEntry) => number> = {
    table: () => 0,
    chain: ({ hook }) => (hook === undefined ? 2 : 3),
    rule: () => 1,
  };
  return entries.reduce((sum, entry) => sum + (needed[entry.kind]?.(entry) ?? Number.NaN), 0);
}

/** @throws `ERR_RULES_TOOL_MISSING` and what else keeps nft from answering */
export async function readNftables(questions: Questions, name: string): Promise<NftablesState> {
  const [allTables, allChains] = await Promise.all([
    nftList(questions, 'tables'),
    nftList(questions, 'chains'),
  ]);
  const tables = [
    ...allTables.map((entry) => `${entry.family} ${entry.name}`),
    ...allChains.map((entry) => `${entry.family} ${entry.table} ${entry.name}`),
  ];
  const state = { rules: {} as Partial<Record<Family, NftLines>>, odd: [] as Family[] };
  let record: Undo | undefined;
  let recordLines: NftLines = [];
  for (const family of FAMILIES) {
    const own = `${NFT_FAMILY[family]} ${nftTable(name)}`;
    if (!tables.includes(own)) continue;
    const table = own.split(' ');
    const entries = await nftList(questions, 'table', ...table);
    const lines = parseNftTable(await questions.read(['nft', '-y', '-s', 'list', 'table', ...table]));
    if (linesOf(entries) !== lines.length) state.odd.push(family);
    if (family === 'IPv6' || !tables.includes(`${own} record`)) {
      state.rules[family] = lines;
      continue;
    }
    const facts = entries.filter(({ kind, chain }) => kind === 'rule' && chain === 'record').map(factOf);
    record = readUndo(facts, own, `nft delete table ${own}`);
    const split = splitRecord(lines);
    state.rules[family] = split.rules;
    ({ recordLines } = split);
  }
  return { ...state, record, recordLines, tables };
}

/** The chain that a rule of iptables leads to, if it matches every packet. */
function jumpTarget({ expr }: NftEntry): string | undefined {
  const words = (expr as Record<string, unknown>[]).filter((part) => !Object.hasOwn(part, 'counter'));
  const [only = {}] = words;
  const { target } = (words.length === 1 ? (only['jump'] ?? only['goto'] ?? {}) : {}) as { target?: unknown };
  return typeof target === 'string' ? target : undefined;
}

/**
 * Which of the built-in chains in a table of iptables hold nothing, and whether the table holds nothing else. What the
 * plan itself put there, in chains that `own` matches, does not count.
 */
export async function emptyIn(
  questions: Questions,
  table: string,
  own: RegExp,
): Promise<{ chains: string[]; all: boolean }> {
  const entries = await nftList(questions, 'table', ...table.split(' '));
  const others = entries.filter(
    (entry) =>
      entry.kind !== 'table' &&
      !own.test(entry.kind === 'chain' ? entry.name : entry.chain) &&
      !own.test(jumpTarget(entry) ?? ''),
  );
  const empty = others.filter(
    ({ kind, name, hook, policy }) =>
      kind === 'chain' &&
      hook !== undefined &&
      policy === 'accept' &&
      !others.some(({ chain }) => chain === name),
  );
  return { chains: empty.map(({ name }) => name), all: empty.length === others.length };
}

/**
 * Commands of nft that remove what iptables itself can no longer read: the jumps to the plan's chains, and the
 * chains. Empty: the table has none of them.
 */
export async function removalByNft(questions: Questions, table: string, own: RegExp): Promise<string> {
  const entries = await nftList(questions, 'table', ...table.split(' '));
  const chains = entries
    .filter(({ kind, name }) => kind === 'chain' && own.test(name))
    .map(({ name }) => name);
  const jumps = entries.filter((entry) => own.test(jumpTarget(entry) ?? '') && !own.test(entry.chain));
  return [
    ...jumps.map(({ chain, handle }) => {
      if (!/^[\w.-]+$/.test(chain))
        throw unreadable(`nft table ${table} has a chain called ${printable(chain)}`);
      return `delete rule ${table} ${chain} handle ${handle}\n`;
    }),
    ...chains.map((chain) => `flush chain ${table} ${chain}\n`),
    ...chains.map((chain) => `delete chain ${table} ${chain}\n`),
  ].join('');
}
