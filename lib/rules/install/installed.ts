import type { Family } from '../config/config.ts';
import type { CodedError } from '../../errors.ts';
import { isSwitch, listBeside, lostBeside } from '../text/forwarding.ts';
import { CHAIN_IDS, chainName, parseIptablesSave, type IptablesTable } from '../text/iptables.ts';
import { NFT_FAMILY, nftTable, parseNftTable, type NftLines } from '../text/nftables.ts';
import { ipList, routesIn, rulesFor, tablesOf, type Listed } from '../text/routing.ts';
import { stepError } from './run.ts';
import type { Backend, MarkRoute, RunStep, Step, StepResult, Sysctl } from '../types.ts';
import { isSetting, settingPath } from './sysctl.ts';
import { NOTHING_TO_UNDO, readUndo, unreadable, type Undo } from './undo.ts';

export const FAMILIES: readonly Family[] = ['IPv4', 'IPv6'];

/** What of a plan is there in one back-end. */
export interface InstalledRules<Rules> {
  rules: Partial<Record<Family, Rules>>;
  undo: Undo;
}

/** What the system has of the plan of one name, and of what it needs. */
export interface Installed {
  name: string;
  /** Undefined: the tool is not there, or cannot be used. */
  nftables: InstalledRules<NftLines> | undefined;
  iptables: InstalledRules<readonly IptablesTable[]> | undefined;
  /** nftables' tables and chains of all owners: `ip nat`, `ip nat OUTPUT`. */
  tables: readonly string[];
  /** Of these, what iptables made for this plan and what holds nothing else. */
  empty: readonly string[];
  /** Rules for the marks and routes in the tables asked for. */
  rules: ReadonlyMap<string, readonly Listed[]>;
  routes: ReadonlyMap<string, readonly Listed[]>;
  sysctls: ReadonlyMap<string, string>;
  /** For each switch among them, what turning it on and back would not leave as it is. */
  beside: ReadonlyMap<string, readonly Sysctl[]>;
}

export const ruleKey = ({ family, mark, table }: MarkRoute): string => `${family} ${mark} ${table}`;
export const routeKey = ({ family, table }: Pick<MarkRoute, 'family' | 'table'>): string =>
  `${family} ${table}`;

function question(...command: [string, ...string[]]): Step {
  return { why: 'see what is installed', command };
}

/** The comment of a rule of a record; of any other rule, the rule itself, which cannot be read as one. */
function commentOf(rule: string): string {
  const [, comment = rule] =
    /^(?:-m comment --comment "([^"]*)" -j RETURN|return comment "([^"]*)")$/
      .exec(rule)
      ?.filter((part) => part !== undefined) ?? [];
  return comment;
}

/** Takes the record out of the lines of a table. */
function splitRecord(lines: NftLines): { rules: NftLines; record: NftLines } {
  const start = lines.indexOf('chain record {');
  if (start < 0) return { rules: lines, record: [] };
  const end = lines.indexOf('}', start);
  return { rules: [...lines.slice(0, start), ...lines.slice(end + 1)], record: lines.slice(start, end) };
}

/**
 * Which of iptables' chains in a table hold nothing, and whether there is nothing else in the table. What the plan
 * itself put there does not count.
 */
function emptyIn(listing: string, name: string): { chains: string[]; all: boolean } {
  const own = `${chainName(name, '')}(?:${CHAIN_IDS})`;
  const blocks = [...listing.matchAll(/^\t(\w+ \S+) \{\n([^]*?)^\t\}\n/gm)].filter(
    ([, head]) => !new RegExp(`^chain ${own}$`).test(head!),
  );
  const nothing = new RegExp(`^\\t\\t(type \\w+ hook .*; policy accept;|.* jump ${own})$`);
  const empty = blocks
    .filter(([, head]) => /^chain [A-Z]+$/.test(head!))
    .filter(([, , body]) => body!.split('\n').every((line) => line === '' || nothing.test(line)));
  return {
    chains: empty.map(([, head]) => head!.replace('chain ', '')),
    all: empty.length === blocks.length,
  };
}

/** Asks each question once. */
class Reader {
  readonly #run: RunStep;
  readonly #answers = new Map<string, Promise<StepResult>>();
  constructor(run: RunStep) {
    this.#run = run;
  }

  #ask(step: Step): Promise<StepResult> {
    const key = step.command.join(' ');
    const known = this.#answers.get(key);
    if (known !== undefined) return known;
    const answer = this.#run(step);
    this.#answers.set(key, answer);
    return answer;
  }

  /** The command's output; throws if it fails. */
  async read(...command: [string, ...string[]]): Promise<string> {
    const step = question(...command);
    const result = await this.#ask(step);
    if (result.status !== 0) throw stepError(step, result);
    return result.stdout;
  }

  async nftables(name: string): Promise<Pick<Installed, 'tables'> & { nftables: InstalledRules<NftLines> }> {
    const tables: string[] = [];
    let table = '';
    for (const line of (await this.read('nft', 'list', 'chains')).split('\n')) {
      const [, kind, entry] = /^\t?(table|chain) (.*) \{$/.exec(line) ?? [];
      if (kind === 'table') tables.push((table = entry!));
      else if (kind === 'chain') tables.push(`${table} ${entry}`);
    }
    const rules: Partial<Record<Family, NftLines>> = {};
    let undo = NOTHING_TO_UNDO;
    for (const family of FAMILIES) {
      const own = `${NFT_FAMILY[family]} ${nftTable(name)}`;
      if (!tables.includes(own)) continue;
      const split = splitRecord(
        parseNftTable(await this.read('nft', '-y', '-s', 'list', 'table', ...own.split(' '))),
      );
      rules[family] = split.rules;
      if (family === 'IPv4' && split.record.length > 0)
        undo = readUndo(split.record.slice(1).map(commentOf), own, `nft delete table ${own}`);
    }
    return { tables, nftables: { rules, undo } };
  }

  async iptables(name: string): Promise<InstalledRules<readonly IptablesTable[]>> {
    const [IPv4, IPv6] = await Promise.all([this.read('iptables-save'), this.read('ip6tables-save')]);
    const rules: Partial<Record<Family, readonly IptablesTable[]>> = {};
    let undo = NOTHING_TO_UNDO;
    for (const [family, saved] of Object.entries({ IPv4, IPv6 }) as [Family, string][]) {
      const all = parseIptablesSave(name, saved);
      const record = all.find(({ table }) => table === 'filter')?.chains.get(chainName(name, 'record'));
      if (family === 'IPv4' && record !== undefined) {
        const chain = chainName(name, 'record');
        undo = readUndo(record.map(commentOf), chain, `iptables -F ${chain}; iptables -X ${chain}`);
      }
      const own = all.filter(({ table }) => table !== 'filter');
      if (record !== undefined || own.length > 0) rules[family] = own;
    }
    return { rules, undo };
  }

  /** Undefined: there is no such setting, as when its interface is gone. */
  async sysctl(key: string): Promise<string | undefined> {
    const path = settingPath(key);
    const step = question('cat', path);
    const result = await this.#ask(step);
    const value = result.stdout.trim();
    if (result.status === 0 && isSetting({ key, value })) return value;
    if (result.status !== 0 && result.stderr.includes('No such file or directory')) return undefined;
    throw result.status === 0
      ? unreadable(`${path} is no number: ${JSON.stringify(value)}`)
      : stepError(step, result);
  }

  /** The answer of `ip`, which calls a table without routes an error. */
  async list(family: Family, what: Parameters<typeof ipList>[1]): Promise<string> {
    const step = question(...(ipList(family, what) as unknown as [string, ...string[]]));
    const result = await this.#ask(step);
    if (result.status !== 0 && !result.stderr.includes('FIB table does not exist'))
      throw stepError(step, result);
    return result.status === 0 ? result.stdout : '[]';
  }
}

/** What is asked about beside rules. */
export interface Needs {
  routes: readonly MarkRoute[];
  sysctls: readonly Sysctl[];
}

/**
 * Asks the system. The back-end `required` must answer; the tools of the other one may be missing, which then means
 * that it has nothing of ours. Without `required` one of the two must be there.
 */
export async function readInstalled(
  name: string,
  needs: Needs,
  run: RunStep,
  required: Backend | undefined,
): Promise<Installed> {
  const reader = new Reader(run);
  const [nft, iptables] = await Promise.all([
    reader.nftables(name).catch((error: Error) => error),
    reader.iptables(name).catch((error: Error) => error),
  ]);
  const missing = (answer: unknown): boolean =>
    answer instanceof Error && (answer as CodedError).code === 'ERR_RULES_TOOL_MISSING';
  for (const [backend, answer] of Object.entries({ nftables: nft, iptables })) {
    if (!(answer instanceof Error)) continue;
    // What cannot be read may be anything, but not nothing.
    if (!missing(answer) || required === backend || (missing(nft) && missing(iptables))) throw answer;
  }
  const nftables = nft instanceof Error ? undefined : nft.nftables;
  const other = iptables instanceof Error ? undefined : iptables;
  const undos = [nftables?.undo ?? NOTHING_TO_UNDO, other?.undo ?? NOTHING_TO_UNDO];
  const tables = nft instanceof Error ? [] : nft.tables;

  const empty: string[] = [];
  for (const made of undos.flatMap((undo) => undo.made)) {
    if (!tables.includes(made)) continue;
    const [family = '', table = '', chain] = made.split(' ');
    const { chains, all } = emptyIn(await reader.read('nft', '-s', 'list', 'table', family, table), name);
    if (chain === undefined ? all : chains.includes(chain)) empty.push(made);
  }

  const routes = [...needs.routes, ...undos.flatMap((undo) => undo.routes)];
  const rules = new Map<string, Listed[]>();
  for (const family of FAMILIES) {
    const own = routes.filter((route) => route.family === family);
    const listed = own.length > 0 ? await reader.list(family, 'rule') : '';
    for (const route of own) rules.set(ruleKey(route), rulesFor(route, listed));
  }
  const inTables = new Map<string, Listed[]>();
  for (const { family, table } of tablesOf(routes)) {
    inTables.set(routeKey({ family, table }), routesIn(await reader.list(family, { table })));
  }
  const sysctls = new Map<string, string>();
  const beside = new Map<string, readonly Sysctl[]>();
  for (const { key } of [...needs.sysctls, ...undos.flatMap((undo) => undo.sysctls)]) {
    const value = await reader.sysctl(key);
    if (value === undefined) continue;
    sysctls.set(key, value);
    if (isSwitch({ key, value }))
      beside.set(key, lostBeside(await reader.read(...listBeside(key)), { key, value }).filter(isSetting));
  }
  return { name, nftables, iptables: other, tables, empty, rules, routes: inTables, sysctls, beside };
}
