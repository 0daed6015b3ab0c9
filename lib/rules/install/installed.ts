// What the system has of the plan of one name, and of what that plan needs.
import type { Family } from '../config/config.ts';
import { isSwitch, listBeside, lostBeside } from '../text/forwarding.ts';
import { tablesOf } from '../text/routing.ts';
import type { Backend, MarkRoute, RunStep, Sysctl } from '../types.ts';
import { ownChains } from './iptables-save.ts';
import { readIptables, type InstalledIptables } from './iptables-state.ts';
import { lostRouting, routeKey, routesIn, ruleKey, rulesFor, type Listed } from './listed-routing.ts';
import { emptyIn, readNftables, type InstalledNftables } from './nftables-state.ts';
import { isMissing, Questions } from './questions.ts';
import { isSetting } from './sysctl.ts';
import { NOTHING_TO_UNDO, type Undo } from './undo.ts';

/** What the system has of the plan of one name, and of what it needs. */
export interface Installed {
  name: string;
  /** Undefined: the tools are not there. */
  nftables: InstalledNftables | undefined;
  iptables: InstalledIptables | undefined;
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

/** What is asked for: a back-end that must answer, for these families. */
export interface Needs {
  backend: Backend | undefined;
  families: readonly Family[];
  routes: readonly MarkRoute[];
  sysctls: readonly Sysctl[];
}

/**
 * Asks the system. The tools of the back-end that is needed must answer; those of the other one may be missing, which
 * then means that it has nothing of ours. What is there and does not answer may hide anything, and is an error.
 */
export async function readInstalled(name: string, needs: Needs, run: RunStep): Promise<Installed> {
  const questions = new Questions(run);
  const nft = await readNftables(questions, name).catch((error: unknown) => {
    if (isMissing(error) && needs.backend !== 'nftables') return undefined;
    throw error;
  });
  const required = needs.backend === 'iptables' ? needs.families : undefined;
  const other = await readIptables(questions, name, required, nft?.tables);
  // Throws the error of the tool that is missing.
  if (nft === undefined && other === undefined) await questions.read(['nft', '-j', '-s', 'list', 'tables']);
  const tables = nft?.tables ?? [];

  const records = [nft?.record, other?.record].filter((record) => record !== undefined);
  const empty: string[] = [];
  for (const made of records.flatMap((record) => record.made)) {
    if (!tables.includes(made)) continue;
    const [family, table, chain] = made.split(' ');
    const { chains, all } = await emptyIn(questions, `${family} ${table}`, ownChains(name));
    if (chain === undefined ? all : chains.includes(chain)) empty.push(made);
  }

  const recorded = records.flatMap((record) => record.routes);
  const lost = await lostRouting(questions, name, recorded, tables, needs.routes.length > 0);
  const undoOf = (record: Undo = NOTHING_TO_UNDO, more: readonly MarkRoute[] = []): Undo => ({
    ...record,
    routes: [...record.routes, ...more],
  });
  const first = needs.backend ?? (nft === undefined ? 'iptables' : 'nftables');
  const routes = [...needs.routes, ...recorded, ...lost];
  const rules = new Map<string, Listed[]>();
  for (const route of routes) rules.set(ruleKey(route), await rulesFor(questions, route));
  const inTables = new Map<string, Listed[]>();
  for (const table of tablesOf(routes)) inTables.set(routeKey(table), await routesIn(questions, table));

  const sysctls = new Map<string, string>();
  const beside = new Map<string, readonly Sysctl[]>();
  for (const { key } of [...needs.sysctls, ...records.flatMap((record) => record.sysctls)]) {
    const value = await questions.sysctl(key);
    if (value === undefined) continue;
    sysctls.set(key, value);
    if (isSwitch({ key, value })) {
      const listed = await questions.read(listBeside(key));
      beside.set(key, lostBeside(listed, { key, value }).filter(isSetting));
    }
  }
  return {
    name,
    nftables: nft && { ...nft, undo: undoOf(nft.record, first === 'nftables' ? lost : []) },
    iptables: other && { ...other, undo: undoOf(other.record, first === 'iptables' ? lost : []) },
    tables,
    empty,
    rules,
    routes: inTables,
    sysctls,
    beside,
  };
}
