// The commands that lead from what is installed to what is to be there.
import { codedError } from '../../errors.ts';
import { isSwitch } from '../text/forwarding.ts';
import { iptablesChange } from '../text/iptables.ts';
import { NFT_FAMILY, nftReplace, nftTable } from '../text/nftables.ts';
import { ipRoute, ipRule, tablesOf } from '../text/routing.ts';
import type { Backend, Step, Sysctl } from '../types.ts';
import { deleteTable, iptablesRecord, nftRecord, nftStep, restoreStep, sysctlStep } from './commands.ts';
import type { Installed } from './installed.ts';
import { routeKey, ruleKey } from './listed-routing.ts';
import { FAMILIES, type InstalledRules } from './nftables-state.ts';
import {
  afterRemoval,
  besideIn,
  removeIptables,
  removeNftables,
  removeRecord,
  removeSteps,
} from './remove-steps.ts';
import { checkShown, type Target } from './target.ts';
import { NOTHING_TO_UNDO, sameUndo, writeUndo, type Undo } from './undo.ts';

/** Refuses to share a mark or a routing table: removing the plan would take from somebody else. */
function checkForeign({ routes }: Target, { undo }: InstalledRules<unknown>, installed: Installed): void {
  for (const route of routes) {
    const recorded = undo.routes.some((other) => ruleKey(other) === ruleKey(route));
    const rule = installed.rules.get(ruleKey(route))?.find(({ own }) => !own || !recorded);
    const entry = installed.routes.get(routeKey(route))?.find(({ own }) => !own || !recorded);
    if (rule === undefined && entry === undefined) continue;
    throw codedError(
      'ERR_RULES_FOREIGN',
      rule === undefined
        ? `the ${route.family} routing table ${route.table} is in use: ${entry!.text}`
        : `there is an ${route.family} routing rule for mark ${route.mark} already: ${rule.text}`,
      { hint: 'choose another option mark and table, or remove it with `ip rule del` or `ip route del`' },
    );
  }
}

function installRules(target: Target, undo: Undo, installed: Installed): Step[] {
  const { name } = installed;
  const why = 'install the rules, in one transaction';
  if (target.backend === 'nftables') {
    const record = nftRecord(undo);
    const text = FAMILIES.map((family) => {
      const lines = [...(family === 'IPv4' ? record : []), ...(target.nftables[family] ?? [])];
      if (lines.length > 0) return nftReplace(name, family, lines);
      return installed.nftables?.rules[family] ? deleteTable(`${NFT_FAMILY[family]} ${nftTable(name)}`) : '';
    });
    return [nftStep(why, text.join(''))];
  }
  return FAMILIES.map((family) => {
    const change = iptablesChange(installed.iptables?.rules[family] ?? [], target.iptables[family] ?? []);
    return restoreStep(why, family, change);
  }).filter(({ stdin }) => stdin !== '');
}

/** What iptables will have to make in nftables, beside what it made for this plan before. */
function madeTables(target: Target, undo: Undo, installed: Installed): string[] {
  if (target.backend === 'nftables' || installed.nftables === undefined) return [];
  const needed = FAMILIES.flatMap((family) =>
    (target.iptables[family] ?? []).flatMap(({ table, jumps }) => {
      const name = `${NFT_FAMILY[family]} ${table}`;
      if (undo.made.includes(name)) return [];
      return installed.tables.includes(name) ? jumps.map(({ hook }) => `${name} ${hook}`) : [name];
    }),
  );
  const made = [...needed, 'ip filter'].filter((entry) => !installed.tables.includes(entry));
  return [...new Set([...undo.made, ...made])];
}

/**
 * Writes the record, before anything that it tells of is done. In nftables the holder alone can wait for the rules,
 * which are installed together with the record.
 */
function recordSteps(undo: Undo, backend: Backend, { name, ...installed }: Installed): Step[] {
  const before = installed[backend]!.record ?? NOTHING_TO_UNDO;
  const why = 'record what will have to be undone';
  if (backend === 'nftables') {
    const { holder: _, ...traces } = undo;
    const { holder: __, ...tracesBefore } = before;
    if (sameUndo(traces, tracesBefore)) return [];
    const table = `ip ${nftTable(name)}`;
    // Beside rules that are there: replacing the table would take them away until the last step.
    const record = `table ${table} {\n${nftRecord(undo).join('\n')}\n}\n`;
    return [nftStep(why, `table ${table} {\nchain record {\n}\n}\nflush chain ${table} record\n${record}`)];
  }
  if (sameUndo(undo, before)) return [];
  if (writeUndo(undo).length === 0) return [removeRecord(name)];
  return [restoreStep(why, 'IPv4', iptablesChange([], [iptablesRecord(name, undo)]))];
}

/**
 * The commands that lead from what is installed to the target: the record first, then what the rules need, then
 * the rules. After any of them the record tells what there is to undo.
 */
export function installSteps(target: Target, installed: Installed): Step[] {
  const { backend } = target;
  const there = installed[backend]!;
  checkShown(target, installed);
  const other = backend === 'nftables' ? removeIptables(installed) : removeNftables(installed);
  const keys = (sysctls: readonly Sysctl[]): string => sysctls.map(({ key }) => key).join(' ');
  const recorded = there.undo.routes.length + there.undo.sysctls.length > 0;
  const routes = ({ routes }: Pick<Undo, 'routes'>): Undo => ({ ...NOTHING_TO_UNDO, routes });
  const fits =
    sameUndo(routes(there.undo), routes(target)) &&
    keys(there.undo.sysctls.filter(isSwitch)) === keys(target.sysctls);
  if (other.length > 0 || (recorded && !fits)) {
    return [...removeSteps(installed), ...installSteps(target, afterRemoval(installed))];
  }
  checkForeign(target, there, installed);

  const undo: Undo = {
    routes: target.routes,
    sysctls: target.sysctls.flatMap(({ key }) => {
      const before = there.undo.sysctls.find((sysctl) => sysctl.key === key);
      if (before !== undefined) return [before, ...besideIn(there.undo.sysctls, key)];
      const value = installed.sysctls.get(key);
      return value === undefined ? [] : [{ key, value }, ...installed.beside.get(key)!];
    }),
    made: madeTables(target, there.undo, installed),
    ...(target.holder === undefined ? {} : { holder: target.holder }),
  };
  const steps = recordSteps(undo, backend, installed);
  for (const sysctl of target.sysctls) {
    if (installed.sysctls.get(sysctl.key) !== sysctl.value) steps.push(sysctlStep('switch it on', sysctl));
  }
  for (const table of tablesOf(target.routes)) {
    if (installed.routes.get(routeKey(table))?.some(({ own }) => own)) continue;
    steps.push({ why: 'a table that routes everything to this host', command: ipRoute('add', table) });
  }
  for (const route of target.routes) {
    if (installed.rules.get(ruleKey(route))?.some(({ own }) => own)) continue;
    steps.push({ why: 'route marked packets by that table', command: ipRule('add', route) });
  }
  return [...steps, ...installRules(target, undo, installed)];
}
