// Conditions that several chains share.
import { DNS_PORT, isPortsOnly } from '../config/checks.ts';
import type { Family, Protocol } from '../config/config.ts';
import { covers, EVERY_ADDRESS, formatPorts, mergeRanges, toPrefixes, type Range } from '../config/ranges.ts';
import { ALL_BITS } from '../config/marks.ts';
import type { Direction, Match, Settings } from '../config/settings.ts';
import type { Condition, Rule } from '../types.ts';

/** The loopback address that programs mean when they mean this host. */
export const LOCALHOST: Record<Family, string> = { IPv4: '127.0.0.1/32', IPv6: '::1/128' };

/** Prefixes for a condition; undefined where the ranges leave nothing out. */
function prefixes(ranges: Range[], family: Family): string[] | undefined {
  if (covers(ranges, EVERY_ADDRESS[family])) return undefined;
  return ranges.flatMap((range) => toPrefixes(range, family));
}

/** Ports as a condition writes them. */
export function portList(ranges: Range[]): string[] {
  return ranges.map((range) => formatPorts(range, '-'));
}

/** A match as a condition on packets of one family; undefined where none of them can match. */
export function toCondition(match: Match, family: Family, side: 'in' | 'out'): Condition | undefined {
  const sources = match.sources?.[family];
  const destinations = match.destinations?.[family];
  if (sources?.length === 0 || destinations?.length === 0) return undefined;
  const condition: Condition = {};
  if (match.interfaces) condition[side === 'in' ? 'inInterfaces' : 'outInterfaces'] = match.interfaces;
  const from = sources && prefixes(sources, family);
  const to = destinations && prefixes(destinations, family);
  if (from) condition.sources = from;
  if (to) condition.destinations = to;
  if (match.ports) condition.ports = portList(match.ports);
  return condition;
}

/** One condition for every match and protocol. */
export function perProtocol(
  matches: readonly Match[],
  protocols: readonly Protocol[],
  family: Family,
  side: 'in' | 'out',
): (Condition & { protocol: Protocol })[] {
  return matches
    .map((match) => toCondition(match, family, side))
    .filter((condition) => condition !== undefined)
    .flatMap((condition) => protocols.map((protocol) => ({ ...condition, protocol })));
}

/** Does it name interfaces and nothing else? */
function isInterfacesOnly({ interfaces, ...more }: Match): boolean {
  return interfaces !== undefined && Object.keys(more).length === 0;
}

/**
 * The exclusions of a direction that come before everything else: whatever goes to such a port or by such an interface
 * is left alone, DNS queries and the proxy's own calls to this host included.
 */
export function wholeExclusions(direction: Direction, family: Family, side: 'in' | 'out'): Rule[] {
  const byInterface = direction.exclude.filter(isInterfacesOnly).map((match): Rule => ({
    when: toCondition(match, family, side)!,
    action: { do: 'return' },
    why: 'excluded interface',
  }));
  const byPort = perProtocol(direction.exclude.filter(isPortsOnly), direction.protocols, family, side).map(
    (when): Rule => ({ when, action: { do: 'return' }, why: 'excluded port' }),
  );
  return [...byInterface, ...byPort];
}

/** The other exclusions of a direction. */
export function exclusions(direction: Direction, family: Family, side: 'in' | 'out'): Rule[] {
  const chosen = direction.exclude.filter((match) => !isPortsOnly(match) && !isInterfacesOnly(match));
  return perProtocol(chosen, direction.protocols, family, side).map((when) => ({
    when,
    action: { do: 'return' },
    why: 'excluded connection',
  }));
}

/** What tells a packet that the proxy sends from all others. */
export function ownPackets({ exempt }: Settings): Condition[] {
  return [
    ...exempt.uids.map((uid) => ({ uid })),
    ...exempt.gids.map((gid) => ({ gid })),
    ...exempt.marks.map(({ mark, mask }) => (mask === ALL_BITS ? { mark } : { mark, markMask: mask })),
    ...exempt.cgroups.map((cgroup) => ({ cgroup })),
  ];
}

/** Packets between the proxy and programs of this host. */
export function passthrough({ exempt }: Settings, family: Family, side: 'in' | 'out'): Rule[] {
  if (exempt.sources[family].length === 0) return [];
  const sources = exempt.sources[family].flatMap((range) => toPrefixes(range, family));
  const through = side === 'in' ? { inInterfaces: ['lo'] } : { outInterfaces: ['lo'] };
  return [{ when: { ...through, sources }, action: { do: 'return' }, why: 'proxy to local program' }];
}

/**
 * The proxy's own calls to addresses of this host other than the one that programs mean by `localhost`: those that
 * go to the inbound listener, whatever tells them from others.
 */
export function hairpinCalls({ dns, outbound }: Settings, family: Family): Condition {
  // The proxy's own queries go to a resolver, also to one on this host.
  const staying = [...outbound!.hairpin!.exceptPorts, ...(dns ? [DNS_PORT] : [])];
  const notPorts = portList(mergeRanges(staying, () => {}));
  return {
    protocol: 'tcp',
    outInterfaces: ['lo'],
    notDestination: LOCALHOST[family],
    ...(notPorts.length > 0 ? { notPorts } : {}),
  };
}

/**
 * Captured connections to which somebody else's DNAT applies too: the accepted socket has the address that NAT wrote, and
 * no packet finds it here, before NAT; handed to the listener again, it would be reset. Only these: a packet that has no
 * socket may be the third of a handshake by SYN cookie, and must come to the listener. Never a SYN: inbound.ts says why.
 */
export function translatedConnections({ mark }: Settings): Rule {
  return {
    when: { protocol: 'tcp', syn: false, translated: true, connmark: mark + 2 },
    action: { do: 'deliver', mark },
    why: 'known connection',
  };
}

/** DNS queries, wherever they come from. */
export function queries({ dns }: Settings, family: Family): (Condition & { protocol: Protocol })[] {
  if (dns === undefined) return [];
  const servers = dns.servers?.[family];
  return perProtocol(
    [
      {
        ports: [DNS_PORT],
        ...(servers ? { destinations: { IPv4: [], IPv6: [], [family]: servers } } : {}),
      },
    ],
    ['tcp', 'udp'],
    family,
    'out',
  );
}
