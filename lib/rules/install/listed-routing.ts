// What `ip` lists of policy routing: which of it this package made, and what of that nobody's record knows of.
import type { Family } from '../config/config.ts';
import { nftTable } from '../text/nftables.ts';
import { FLAG, PRIORITY, PROTOCOL, type IpCommand } from '../text/routing.ts';
import type { MarkRoute } from '../types.ts';
import { ownChains, SAVE } from './iptables-save.ts';
import { FAMILIES } from './nftables-state.ts';
import { printable } from './printable.ts';
import type { Questions } from './questions.ts';

/** A rule or a route as it is told to people. */
export interface Listed {
  text: string;
  /** Exactly what this package would have made. */
  own: boolean;
}

export const ruleKey = ({ family, mark, table }: MarkRoute): string => `${family} ${mark} ${table}`;
export const routeKey = ({ family, table }: Pick<MarkRoute, 'family' | 'table'>): string =>
  `${family} ${table}`;

type Entry = Record<string, unknown>;

/** Of a field that may not be there. */
function word(value: unknown): string {
  return printable(String(value ?? 'none'));
}

/** A table without routes is an error to `ip`. */
const noTable = ({ stderr }: { stderr: string }): string | undefined =>
  stderr.includes('FIB table does not exist') ? '[]' : undefined;

const whole = (json: unknown): unknown => json;

const ip = (family: Family, ...words: string[]): IpCommand => ['ip', FLAG[family], '-json', ...words];

// -N: numbers, where /etc/iproute2 would give names. With it routes lose the names of their types too.
const listRules = (questions: Questions, family: Family): Promise<Entry[]> =>
  questions.objects(ip(family, '-N', 'rule', 'show'));

/** Is it a rule like those of this package, for whatever mark and table? */
function isOwnRule(rule: Entry): boolean {
  const { priority, protocol, fwmask, src = 'all', fwmark, table, ...more } = rule;
  return (
    priority === PRIORITY &&
    protocol === String(PROTOCOL) &&
    fwmask === undefined &&
    src === 'all' &&
    fwmark !== undefined &&
    table !== undefined &&
    Object.keys(more).length === 0
  );
}

/** The rules of a family that look at that mark. */
export async function rulesFor(questions: Questions, { family, mark, table }: MarkRoute): Promise<Listed[]> {
  return (await listRules(questions, family))
    .filter(({ fwmark }) => fwmark !== undefined && Number(fwmark) === mark)
    .map((rule) => {
      const mask = rule['fwmask'] === undefined ? '' : `/${word(rule['fwmask'])}`;
      return {
        text: `fwmark ${word(rule['fwmark'])}${mask} lookup ${word(rule['table'])} priority ${word(rule['priority'])} protocol ${word(rule['protocol'])}`,
        own: isOwnRule(rule) && rule['table'] === String(table),
      };
    });
}

/** The routes of one table. */
export async function routesIn(
  questions: Questions,
  { family, table }: Pick<MarkRoute, 'family' | 'table'>,
): Promise<Listed[]> {
  const listed = await questions.objects(ip(family, 'route', 'show', 'table', `${table}`), whole, noTable);
  return listed.map(({ type = 'unicast', dst, dev, protocol }) => ({
    text: `${word(type)} ${word(dst)} dev ${word(dev)} protocol ${word(protocol)}`,
    own: type === 'local' && dst === 'default' && dev === 'lo' && protocol === String(PROTOCOL),
  }));
}

/** The mark of a route that is there without a rule: none has it. */
const NO_MARK = 0;

/**
 * All that this package made, whoever knows of it: rules with their tables, and tables that no rule leads to. They
 * outlive a `flush ruleset`, which takes rules and record away.
 */
async function ownRouting(questions: Questions, family: Family): Promise<MarkRoute[]> {
  const rules = (await listRules(questions, family)).filter(isOwnRule).map(({ fwmark, table }) => ({
    family,
    mark: Number(fwmark),
    table: Number(table),
  }));
  const routes = await questions.objects(
    ip(family, '-N', 'route', 'show', 'table', 'all', 'protocol', `${PROTOCOL}`),
    whole,
    noTable,
  );
  const tables = routes
    .filter(({ dst, dev }) => dst === 'default' && dev === 'lo')
    .map(({ table }) => ({ family, mark: NO_MARK, table: Number(table) }))
    .filter(({ table }) => !rules.some((rule) => rule.table === table));
  return [...rules, ...tables].filter(({ mark, table }) => Number.isInteger(mark) && Number.isInteger(table));
}

/** Does another plan of this package need that route? Its record says so, or a rule that sets the mark. */
function isClaimed({ family, mark, table }: MarkRoute, listings: string): boolean {
  if (mark === NO_MARK) return new RegExp(`undo route ${family} \\d+ ${table}\\b`).test(listings);
  const hex = mark.toString(16);
  return (
    listings.includes(`undo route ${family} ${mark} ${table}`) ||
    listings.includes(`mark set 0x${hex.padStart(8, '0')}`) ||
    listings.includes(`mark 0x${hex}/0xffffffff`)
  );
}

/**
 * Routing of this package that no record knows of. `nft flush ruleset`, which restarting nftables.service does, takes
 * rules and record away and leaves it.
 */
export async function lostRouting(
  questions: Questions,
  name: string,
  recorded: readonly MarkRoute[],
  tables: readonly string[],
  needed: boolean,
): Promise<MarkRoute[]> {
  const all: MarkRoute[] = [];
  for (const family of FAMILIES) {
    try {
      all.push(...(await ownRouting(questions, family)));
    } catch (error) {
      // Whoever cannot ask so could not have made it either: apply asks the same way.
      if (needed || recorded.length > 0) throw error;
    }
  }
  const unknown = all.filter(
    ({ family, mark, table }) =>
      !recorded.some(
        (route) =>
          route.family === family && route.table === table && (mark === NO_MARK || route.mark === mark),
      ),
  );
  if (unknown.length === 0) return [];
  const own = ownChains(name);
  const others = tables.filter(
    (entry) => /^ip6? original-dst-[a-z0-9-]+$/.test(entry) && !entry.endsWith(` ${nftTable(name)}`),
  );
  const listings = await Promise.all([
    ...others.map((entry) => questions.read(['nft', '-y', '-s', 'list', 'table', ...entry.split(' ')])),
    ...FAMILIES.map((family) => questions.read([SAVE[family]], () => '')),
  ]);
  const lines = listings.join('\n').split('\n');
  const foreign = lines.filter((line) => !own.test(/^-A (\S+)/.exec(line)?.[1] ?? '')).join('\n');
  return unknown.filter((route) => !isClaimed(route, foreign));
}
