// Policy routes as ip(8) commands, and back.
import type { Family } from '../config/config.ts';
import type { MarkRoute, RulePlan } from '../types.ts';

/**
 * Marks routes and rules as this package's (rtnetlink's protocol numbers from 5 up are free to choose; this one is
 * in no list), so that removing them never hits somebody else's.
 */
export const PROTOCOL = 143;

/** Before the table main (32766), after what administrators number by hand. */
export const PRIORITY = 13370;

/** `ip`’s option for a family. */
export const FLAG: Record<Family, '-4' | '-6'> = { IPv4: '-4', IPv6: '-6' };

export type IpCommand = readonly ['ip', ...string[]];

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
