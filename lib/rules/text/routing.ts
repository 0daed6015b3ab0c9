import type { Family } from '../config/config.ts';
import type { MarkRoute, RulePlan } from '../types.ts';

/**
 * Marks routes and rules as this package's (rtnetlink's protocol numbers from 5 up are free to choose; this one is
 * in no list), so that removing them never hits somebody else's.
 */
export const PROTOCOL = 143;

/** Before the table main (32766), after what administrators number by hand. */
export const PRIORITY = 13370;

const FLAG: Record<Family, '-4' | '-6'> = { IPv4: '-4', IPv6: '-6' };

type IpCommand = readonly ['ip', ...string[]];

/** The arguments that make (`add`) or remove (`del`) the rule of one mark. */
export function ipRule(verb: 'add' | 'del', { family, mark, table }: MarkRoute): IpCommand {
  const words = `fwmark 0x${mark.toString(16)} lookup ${table} priority ${PRIORITY} protocol ${PROTOCOL}`;
  return ['ip', FLAG[family], 'rule', verb, ...words.split(' ')];
}

/** The arguments that make or remove the route that takes every packet to be for this host. */
export function ipRoute(
  verb: 'add' | 'del',
  { family, table }: Pick<MarkRoute, 'family' | 'table'>,
): IpCommand {
  const words = `local default dev lo table ${table} protocol ${PROTOCOL}`;
  return ['ip', FLAG[family], 'route', verb, ...words.split(' ')];
}

/** One entry for each table of each family. */
export function tablesOf(routes: readonly MarkRoute[]): Pick<MarkRoute, 'family' | 'table'>[] {
  const distinct = new Map(routes.map(({ family, table }) => [`${family} ${table}`, { family, table }]));
  return [...distinct.values()];
}

/** The plan's policy routing as `ip` commands, for a host without it. Empty unless a direction uses tproxy. */
export function toIpCommands(plan: RulePlan): string[] {
  return [
    ...tablesOf(plan.routes).map((table) => ipRoute('add', table)),
    ...plan.routes.map((route) => ipRule('add', route)),
  ].map((command) => command.join(' '));
}

/** The arguments that list the rules of a family, or a table. */
export function ipList(family: Family, what: 'rule' | { table: number }): IpCommand {
  // -N: numbers, where /etc/iproute2 would give names. With it routes lose the names of their types too.
  const words = what === 'rule' ? ['-N', 'rule', 'show'] : ['route', 'show', 'table', `${what.table}`];
  return ['ip', FLAG[family], '-json', ...words];
}

interface ListedRule {
  priority: number;
  fwmark?: string;
  fwmask?: string;
  table?: string;
  protocol?: string;
}

interface ListedRoute {
  type?: string;
  dst: string;
  dev?: string;
  protocol?: string;
}

/** A rule or a route as it is told to people. */
export interface Listed {
  text: string;
  /** Exactly what this package would have made. */
  own: boolean;
}

/** From the list of a family's rules those that look at that mark. */
export function rulesFor({ mark, table }: Pick<MarkRoute, 'mark' | 'table'>, json: string): Listed[] {
  return (JSON.parse(json) as ListedRule[])
    .filter(({ fwmark }) => fwmark !== undefined && Number(fwmark) === mark)
    .map((rule) => ({
      text: `fwmark ${rule.fwmark}${rule.fwmask ? `/${rule.fwmask}` : ''} lookup ${rule.table} priority ${rule.priority} protocol ${rule.protocol}`,
      own:
        rule.priority === PRIORITY &&
        rule.fwmask === undefined &&
        rule.table === String(table) &&
        rule.protocol === String(PROTOCOL),
    }));
}

/** The routes of one table. */
export function routesIn(json: string): Listed[] {
  return (JSON.parse(json) as ListedRoute[]).map((route) => ({
    text: `${route.type ?? 'unicast'} ${route.dst} dev ${route.dev} protocol ${route.protocol}`,
    own:
      route.type === 'local' &&
      route.dst === 'default' &&
      route.dev === 'lo' &&
      route.protocol === String(PROTOCOL),
  }));
}
