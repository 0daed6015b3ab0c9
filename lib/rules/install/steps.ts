import { codedError } from '../../errors.ts';
import type { Family } from '../config/config.ts';
import { isSwitch } from '../text/forwarding.ts';
import { FAMILIES, routeKey, ruleKey, type Installed, type InstalledRules } from './installed.ts';
import { chainName, iptablesChange, iptablesTables, type IptablesTable } from '../text/iptables.ts';
import { NFT_FAMILY, nftLines, nftReplace, nftTable, type NftLines } from '../text/nftables.ts';
import { ipRoute, ipRule, tablesOf } from '../text/routing.ts';
import type { Backend, MarkRoute, RulePlan, Step, Sysctl } from '../types.ts';
import { settingPath } from './sysctl.ts';
import { NOTHING_TO_UNDO, sameUndo, writeUndo, type Undo } from './undo.ts';

/** What is to be there in the end. */
export interface Target {
  backend: Backend;
  nftables: Partial<Record<Family, NftLines>>;
  iptables: Partial<Record<Family, readonly IptablesTable[]>>;
  routes: readonly MarkRoute[];
  sysctls: readonly Sysctl[];
}

/** What a plan comes to in a back-end. */
export function targetOf(plan: RulePlan, backend: Backend): Target {
  const chains = Object.entries(plan.chains) as [Family, NonNullable<RulePlan['chains'][Family]>][];
  return {
    backend,
    nftables: Object.fromEntries(chains.map(([family, own]) => [family, nftLines(own, family)])),
    iptables: Object.fromEntries(
      chains.map(([family, own]) => [family, iptablesTables(plan.name, own, family)]),
    ),
    routes: plan.routes,
    sysctls: plan.sysctls,
  };
}

/** What was there; undefined if that was no whole installation, but nothing or the remains of one. */
export function targetBefore(installed: Installed, backend: Backend): Target | undefined {
  const there = installed[backend];
  if (there === undefined || !Object.values(there.rules).some((rules) => rules.length > 0)) return undefined;
  return {
    backend,
    nftables: installed.nftables?.rules ?? {},
    iptables: installed.iptables?.rules ?? {},
    routes: there.undo.routes,
    sysctls: there.undo.sysctls
      .filter(isSwitch)
      .map(({ key }) => ({ key, value: installed.sysctls.get(key)! })),
  };
}

const RESTORE: Record<Family, 'iptables-restore' | 'ip6tables-restore'> = {
  IPv4: 'iptables-restore',
  IPv6: 'ip6tables-restore',
};

function nftStep(why: string, stdin: string): Step {
  return { why, command: ['nft', '-f', '-'], stdin };
}

function restoreStep(why: string, family: Family, stdin: string): Step {
  // Waits for others that change rules, as legacy iptables locks.
  return { why, command: [RESTORE[family], '--noflush', '--wait=10'], stdin };
}

function sysctlStep(why: string, { key, value }: Sysctl): Step {
  return { why, command: ['tee', settingPath(key)], stdin: `${value}\n` };
}

/** The record in nftables: a chain that no hook leads to. */
function nftRecord(undo: Undo): NftLines {
  const facts = writeUndo(undo);
  return facts.length > 0 ? ['chain record {', ...facts.map((fact) => `return comment "${fact}"`), '}'] : [];
}

/** The record in iptables, in the table `filter`, where it is. */
function iptablesRecord(name: string, undo: Undo): IptablesTable[] {
  const facts = writeUndo(undo).map((fact) => `-m comment --comment "${fact}" -j RETURN`);
  return facts.length > 0
    ? [{ table: 'filter', chains: new Map([[chainName(name, 'record'), facts]]), jumps: [] }]
    : [];
}

function deleteTable(table: string): string {
  return `table ${table}\ndelete table ${table}\n`;
}

/** Deletes a table, `ip nat`, or a chain, `ip nat OUTPUT`. nft has no word for “if it is empty”: it was, just now. */
function deleteMade(entry: string): string {
  return entry.split(' ').length === 2 ? deleteTable(entry) : `delete chain ${entry}\n`;
}

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

function removeNftables(installed: Installed): Step[] {
  const { nftables, name } = installed;
  const families = FAMILIES.filter((family) => nftables?.rules[family] !== undefined);
  if (nftables === undefined || families.length === 0) return [];
  const all = families.map((family) => deleteTable(`${NFT_FAMILY[family]} ${nftTable(name)}`)).join('');
  const last = nftStep('remove the plan’s tables', all);
  const record = nftRecord(nftables.undo);
  if (record.length === 0) return [last];
  const rules = families.some((family) => nftables.rules[family]!.length > 0);
  return [
    ...(rules
      ? [
          nftStep(
            'remove the rules, keep the record of what is still to be undone',
            all + nftReplace(name, 'IPv4', record),
          ),
        ]
      : []),
    ...undoSteps(nftables, installed),
    last,
  ];
}

function removeIptables(installed: Installed): Step[] {
  const { iptables, name } = installed;
  if (iptables === undefined) return [];
  const rules = FAMILIES.map((family) => [family, iptablesChange(iptables.rules[family] ?? [], [])] as const)
    .filter(([, change]) => change !== '')
    .map(([family, change]) => restoreStep('remove the rules', family, change));
  const record = iptablesRecord(name, iptables.undo);
  if (record.length === 0) return rules;
  const made = installed.empty;
  const others = made.filter((entry) => entry !== 'ip filter');
  return [
    ...rules,
    ...undoSteps(iptables, installed),
    ...(others.length > 0
      ? [nftStep('remove the empty tables and chains that iptables made', others.map(deleteMade).join(''))]
      : []),
    made.includes('ip filter')
      ? nftStep('remove the record and the table made for it', deleteTable('ip filter'))
      : restoreStep('remove the record', 'IPv4', iptablesChange(record, [])),
  ];
}

/** The commands that remove whatever is there of a plan, in both back-ends. */
export function removeSteps(installed: Installed): Step[] {
  return [...removeNftables(installed), ...removeIptables(installed)];
}

/** What follows a switch in the record, up to the next one. */
function besideIn(sysctls: readonly Sysctl[], key: string): readonly Sysctl[] {
  const rest = sysctls.slice(sysctls.findIndex((sysctl) => sysctl.key === key) + 1);
  const end = rest.findIndex(isSwitch);
  return end < 0 ? rest : rest.slice(0, end);
}

/** What is there after removeSteps. */
function afterRemoval(installed: Installed): Installed {
  const undos = [installed.nftables?.undo ?? NOTHING_TO_UNDO, installed.iptables?.undo ?? NOTHING_TO_UNDO];
  const recorded = undos.flatMap(({ routes }) => routes);
  const recordedSysctls = undos.flatMap(({ sysctls }) => sysctls);
  const none = { rules: {}, undo: NOTHING_TO_UNDO };
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
    nftables: installed.nftables && none,
    iptables: installed.iptables && none,
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
 * The commands that lead from what is installed to the target: the record first, then what the rules need, then
 * the rules. After any of them the record tells what there is to undo.
 */
export function installSteps(target: Target, installed: Installed): Step[] {
  const { backend } = target;
  const there = installed[backend]!;
  const other = backend === 'nftables' ? removeIptables(installed) : removeNftables(installed);
  const keys = (sysctls: readonly Sysctl[]): string => sysctls.map(({ key }) => key).join(' ');
  const recorded = there.undo.routes.length + there.undo.sysctls.length > 0;
  const fits =
    sameUndo(
      { ...NOTHING_TO_UNDO, routes: there.undo.routes },
      { ...NOTHING_TO_UNDO, routes: target.routes },
    ) && keys(there.undo.sysctls.filter(isSwitch)) === keys(target.sysctls);
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
  };
  const steps: Step[] = [];
  if (!sameUndo(undo, there.undo)) {
    const why = 'record what will have to be undone';
    steps.push(
      backend === 'nftables'
        ? // Beside rules that are there: replacing the table would take them away until the last step.
          nftStep(why, `table ip ${nftTable(installed.name)} {\n${nftRecord(undo).join('\n')}\n}\n`)
        : restoreStep(why, 'IPv4', iptablesChange([], iptablesRecord(installed.name, undo))),
    );
  }
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
