// The commands that remove whatever is there of a plan.
import { isSwitch } from '../text/forwarding.ts';
import { iptablesChange } from '../text/iptables.ts';
import { NFT_FAMILY, nftReplace, nftTable } from '../text/nftables.ts';
import { ipRoute, ipRule, tablesOf } from '../text/routing.ts';
import type { Step, Sysctl } from '../types.ts';
import {
  deleteMade,
  deleteTable,
  iptablesRecord,
  nftRecord,
  nftStep,
  restoreStep,
  sysctlStep,
} from './commands.ts';
import type { Installed } from './installed.ts';
import { routeKey, ruleKey } from './listed-routing.ts';
import { FAMILIES, type InstalledRules } from './nftables-state.ts';
import { NOTHING_TO_UNDO, type Undo } from './undo.ts';

/** Undoes what is not rules, as far as it is there. */
function undoSteps({ undo }: InstalledRules<unknown>, installed: Installed): Step[] {
  const own = (listed: readonly { own: boolean }[] | undefined): boolean =>
    listed!.some((entry) => entry.own);
  const changed = ({ key, value }: Sysctl): boolean => installed.sysctls.get(key) !== value;
  // A switch takes others of its family along, whatever those are now.
  const family = ({ key }: Sysctl): string => key.slice(0, 'net/ipv4'.length);
  const switched = new Set(undo.sysctls.filter((sysctl) => isSwitch(sysctl) && changed(sysctl)).map(family));
  return [
    ...undo.routes
      .filter((route) => own(installed.rules.get(ruleKey(route))))
      .map((route): Step => ({
        why: 'stop routing marked packets to this host',
        command: ipRule('del', route),
      })),
    ...tablesOf(undo.routes)
      .filter((table) => own(installed.routes.get(routeKey(table))))
      .map((table): Step => ({ why: 'empty the routing table for them', command: ipRoute('del', table) })),
    ...undo.sysctls
      .filter(({ key }) => installed.sysctls.has(key))
      .filter((sysctl) => changed(sysctl) || (switched.has(family(sysctl)) && !isSwitch(sysctl)))
      .map((sysctl) => sysctlStep('set it as it was before', sysctl)),
  ];
}

/** Is there more to undo than rules? */
function leavesTraces({ routes, sysctls, made }: Undo): boolean {
  return routes.length + sysctls.length + made.length > 0;
}

export function removeNftables(installed: Installed): Step[] {
  const { nftables, name } = installed;
  const families = FAMILIES.filter((family) => nftables?.rules[family] !== undefined);
  if (nftables === undefined) return [];
  if (families.length === 0) return undoSteps(nftables, installed);
  const all = families.map((family) => deleteTable(`${NFT_FAMILY[family]} ${nftTable(name)}`)).join('');
  const last = nftStep('remove the plan’s tables', all);
  if (!leavesTraces(nftables.undo)) return [last];
  const rules = families.some((family) => nftables.rules[family]!.length > 0);
  return [
    ...(rules
      ? [
          nftStep(
            'remove the rules, keep the record of what is still to be undone',
            all + nftReplace(name, 'IPv4', nftRecord(nftables.undo)),
          ),
        ]
      : []),
    ...undoSteps(nftables, installed),
    last,
  ];
}

export function removeIptables(installed: Installed): Step[] {
  const { iptables, name } = installed;
  if (iptables === undefined) return [];
  const rules = FAMILIES.map((family) => [family, iptablesChange(iptables.rules[family] ?? [], [])] as const)
    .filter(([, change]) => change !== '')
    .map(([family, change]) => restoreStep('remove the rules', family, change));
  if (iptables.hiddenRemoval !== '')
    rules.push(nftStep('remove the rules that iptables cannot show', iptables.hiddenRemoval));
  const undone = [...rules, ...undoSteps(iptables, installed)];
  if (iptables.record === undefined) return undone;
  const made = installed.empty;
  const others = made.filter((entry) => entry !== 'ip filter');
  return [
    ...undone,
    ...(others.length > 0
      ? [nftStep('remove the empty tables and chains that iptables made', others.map(deleteMade).join(''))]
      : []),
    made.includes('ip filter')
      ? nftStep('remove the record and the table made for it', deleteTable('ip filter'))
      : removeRecord(name),
  ];
}

/** Takes the record away, with whatever is in it. */
export function removeRecord(name: string): Step {
  return restoreStep(
    'remove the record',
    'IPv4',
    iptablesChange([iptablesRecord(name, NOTHING_TO_UNDO)], []),
  );
}

/** The commands that remove whatever is there of a plan, in both back-ends. */
export function removeSteps(installed: Installed): Step[] {
  return [...removeNftables(installed), ...removeIptables(installed)];
}

/** What follows a switch in the record, up to the next one. */
export function besideIn(sysctls: readonly Sysctl[], key: string): readonly Sysctl[] {
  const rest = sysctls.slice(sysctls.findIndex((sysctl) => sysctl.key === key) + 1);
  const end = rest.findIndex(isSwitch);
  return end < 0 ? rest : rest.slice(0, end);
}

/** What is there after removeSteps. */
export function afterRemoval(installed: Installed): Installed {
  const undos = [installed.nftables?.undo ?? NOTHING_TO_UNDO, installed.iptables?.undo ?? NOTHING_TO_UNDO];
  const recorded = undos.flatMap(({ routes }) => routes);
  const recordedSysctls = undos.flatMap(({ sysctls }) => sysctls);
  const none = { rules: {}, record: undefined, undo: NOTHING_TO_UNDO };
  // The same rule may be listed for another mark and table that are asked about, and is then not its own.
  const without = (all: Installed['rules'], keys: readonly string[]): Installed['rules'] => {
    const family = (key: string): string => key.split(' ')[0]!;
    const gone = new Set(
      keys.flatMap((key) => all.get(key)!.map(({ own, text }) => (own ? `${family(key)} ${text}` : ''))),
    );
    return new Map(
      [...all].map(([key, listed]) => [
        key,
        listed.filter(({ text }) => !gone.has(`${family(key)} ${text}`)),
      ]),
    );
  };
  return {
    ...installed,
    nftables: installed.nftables && { ...none, recordLines: [], odd: [] },
    iptables: installed.iptables && { ...installed.iptables, ...none, recordJumps: [], hiddenRemoval: '' },
    tables: installed.tables.filter((table) => !installed.empty.includes(table)),
    empty: [],
    rules: without(installed.rules, recorded.map(ruleKey)),
    routes: without(installed.routes, recorded.map(routeKey)),
    sysctls: new Map([
      ...installed.sysctls,
      ...recordedSysctls.map(({ key, value }) => [key, value] as const),
    ]),
    beside: new Map([
      ...installed.beside,
      ...recordedSysctls.filter(isSwitch).map(({ key }) => [key, besideIn(recordedSysctls, key)] as const),
    ]),
  };
}
