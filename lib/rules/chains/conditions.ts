// Conditions that several chains share.
import { DNS_PORT, isPortsOnly, matchCovers, stayingPorts } from '../config/checks.ts';
import type { Family, Protocol } from '../config/config.ts';
import { covers, EVERY_ADDRESS, formatPorts, toPrefixes, type Range } from '../config/ranges.ts';
import { ALL_BITS } from '../config/marks.ts';
import type { Match } from '../config/match.ts';
import type { Direction, Settings } from '../config/settings.ts';
import type { Condition, Rule } from '../types.ts';

/** Prefixes for a condition; undefined where the ranges leave nothing out. */
function prefixes(ranges: Range[], family: Family): string[] | undefined {
  if (covers(ranges, EVERY_ADDRESS[family])) return undefined;
  return ranges.flatMap((range) => toPrefixes(range, family));
}

/** Ports as a condition writes them. */
function portList(ranges: Range[]): string[] {
  return ranges.map((range) => formatPorts(range, '-'));
}

/** The owners that a match names, one condition each; one without any where it names none. */
function owners({ uids, gids }: Match): Pick<Condition, 'uid' | 'gid'>[] {
  const users = uids?.map((uid) => ({ uid })) ?? [{}];
  return users.flatMap((user) => gids?.map((gid) => ({ ...user, gid })) ?? [user]);
}

/** A match as conditions on packets of one family, one for each owner; none where no packet can match. */
export function toConditions(match: Match, family: Family, side: 'in' | 'out'): Condition[] {
  const sources = match.sources?.[family];
  const destinations = match.destinations?.[family];
  if (sources?.length === 0 || destinations?.length === 0) return [];
  const condition: Condition = {};
  if (match.interfaces) condition[side === 'in' ? 'inInterfaces' : 'outInterfaces'] = match.interfaces;
  const from = sources && prefixes(sources, family);
  const to = destinations && prefixes(destinations, family);
  if (from) condition.sources = from;
  if (to) condition.destinations = to;
  if (match.ports) condition.ports = portList(match.ports);
  return owners(match).map((owner) => ({ ...condition, ...owner }));
}

/** One condition for every match and protocol. */
export function perProtocol(
  matches: readonly Match[],
  protocols: readonly Protocol[],
  family: Family,
  side: 'in' | 'out',
): (Condition & { protocol: Protocol })[] {
  return matches
    .flatMap((match) => toConditions(match, family, side))
    .flatMap((condition) => protocols.map((protocol) => ({ ...condition, protocol })));
}

/** What a direction captures, and the port of the proxy that it goes to: the first one that holds decides. */
export function captures(
  { include, port, protocols }: Direction,
  family: Family,
  side: 'in' | 'out',
): { when: Condition & { protocol: Protocol }; port: number }[] {
  return include.flatMap((match) =>
    perProtocol([match], protocols, family, side).map((when) => ({ when, port: match.proxyPort ?? port })),
  );
}

/** The same as rules of a nat chain. */
export function redirects(direction: Direction, family: Family, side: 'in' | 'out'): Rule[] {
  return captures(direction, family, side).map(({ when, port }) => ({
    when,
    action: { do: 'redirect', port },
    why: 'captured connection',
  }));
}

/** Does it name interfaces and nothing else? */
function isInterfacesOnly({ interfaces, ...more }: Match): boolean {
  return interfaces !== undefined && Object.keys(more).length === 0;
}

/** Does it name users or groups and nothing else? */
function isOwnersOnly({ uids, gids, ...more }: Match): boolean {
  return (uids ?? gids) !== undefined && Object.keys(more).length === 0;
}

/** Those who send what the exclusions that name nothing else leave alone. */
export function excludedOwners({ exclude }: Direction): Condition[] {
  return exclude.filter(isOwnersOnly).flatMap(owners);
}

/**
 * The exclusions of a direction that come before everything else: whatever goes to such a port, by such an interface or
 * from such an owner is left alone, DNS queries and the proxy's own calls to this host included.
 */
export function wholeExclusions(direction: Direction, family: Family, side: 'in' | 'out'): Rule[] {
  const byInterface = direction.exclude
    .filter(isInterfacesOnly)
    .flatMap((match) => toConditions(match, family, side))
    .map((when): Rule => ({ when, action: { do: 'return' }, why: 'excluded interface' }));
  const byOwner = excludedOwners(direction).map((when): Rule => ({
    when,
    action: { do: 'return' },
    why: 'excluded owner',
  }));
  const byPort = perProtocol(direction.exclude.filter(isPortsOnly), direction.protocols, family, side).map(
    (when): Rule => ({ when, action: { do: 'return' }, why: 'excluded port' }),
  );
  return [...byInterface, ...byOwner, ...byPort];
}

/** The other exclusions of a direction. */
export function exclusions(direction: Direction, family: Family, side: 'in' | 'out'): Rule[] {
  const chosen = direction.exclude.filter(
    (match) => !isPortsOnly(match) && !isInterfacesOnly(match) && !isOwnersOnly(match),
  );
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
export function hairpinCalls({ dns, outbound, localhost }: Settings, family: Family): Condition {
  const notPorts = portList(stayingPorts(outbound!.hairpin!.exceptPorts, dns !== undefined));
  return {
    protocol: 'tcp',
    outInterfaces: ['lo'],
    notDestination: localhost[family],
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

/** DNS queries, whoever sends them. */
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

/** The matches that no other one holds; one that matches everything where there are none. */
export function widest(matches: readonly Match[], family: Family): readonly Match[] {
  if (matches.length === 0) return [{}];
  return matches.filter(
    (match, i) =>
      !matches.some(
        (other, j) =>
          j !== i && matchCovers(other, match, family) && (j < i || !matchCovers(match, other, family)),
      ),
  );
}

/** Whose connections are captured: where all of `include` names users or groups, these; else everybody's. */
export function capturedOwners({ include }: Direction, family: Family): Pick<Condition, 'uid' | 'gid'>[] {
  const asking = include.flatMap(owners).map(({ uid, gid }): Match => ({
    ...(uid === undefined ? {} : { uids: [uid] }),
    ...(gid === undefined ? {} : { gids: [gid] }),
  }));
  return widest(asking, family).flatMap(owners);
}

/** The queries of those whose connections are captured. */
export function programQueries(settings: Settings, family: Family): (Condition & { protocol: Protocol })[] {
  return capturedOwners(settings.outbound!, family).flatMap((owner) =>
    queries(settings, family).map((query) => ({ ...query, ...owner })),
  );
}
