// Refuses settings that would be accepted and do nothing: what cannot be captured, and what nothing is captured for.
import type { Family, RulesConfig } from './config.ts';
import { covers, formatAddresses, MULTICAST, parseCidr, type Range } from './ranges.ts';
import { contradiction } from './refusals.ts';
import type { Match } from './match.ts';
import { leavesSome, nameCovers } from './remainder.ts';
import type { Settings } from './settings.ts';

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6'];

/** Addresses that no packet of another interface has. */
const LOOPBACK = { IPv4: [parseCidr('', '127.0.0.0/8')], IPv6: [parseCidr('', '::1')] };
/** Addresses of more than one host. */
const MANY = {
  IPv4: [parseCidr('', MULTICAST.IPv4), parseCidr('', '255.255.255.255')],
  IPv6: [parseCidr('', MULTICAST.IPv6)],
};

/** The first entry of a field that lies within these networks, as text. */
function within(addresses: Match['sources'], networks: Record<Family, Range[]>): string | undefined {
  return FAMILIES.flatMap((family) =>
    (addresses?.[family] ?? [])
      .filter((range) => covers(networks[family], [range]))
      .map((range) => formatAddresses(range, family)),
  )[0];
}

/** What of a match holds for packets within this host alone. */
function withinHost({ sources, destinations, interfaces }: Match): string | undefined {
  return (
    within(sources, LOOPBACK) ??
    within(destinations, LOOPBACK) ??
    (interfaces?.includes('lo') ? 'lo' : undefined)
  );
}

/** Packets of the proxy's own, as matches. */
function ownTraffic({ uids, gids }: Settings['exempt']): Match[] {
  return [...(uids.length > 0 ? [{ uids }] : []), ...(gids.length > 0 ? [{ gids }] : [])];
}

/** Is anything captured of what an entry names? All that other settings leave alone is looked at together. */
function captures(option: 'outbound' | 'inbound' | 'gateway', match: Match, settings: Settings): boolean {
  const { outbound, inbound, exempt, families } = settings;
  const { exclude, mode, port } = settings[option]!;
  const atProxy = BigInt(match.proxyPort ?? port);
  const never: Match[] = [
    ...exclude,
    { destinations: MANY },
    { sources: MANY },
    ...(option === 'outbound' ? ownTraffic(exempt) : []),
    // What is for the proxy's own port is the proxy's anyway.
    ...(option === 'inbound' && inbound!.scope === 'host'
      ? [{ ports: [{ first: atProxy, last: atProxy }] }]
      : []),
  ];
  const elsewhere = [...never, { destinations: LOOPBACK }, { sources: LOOPBACK }, { interfaces: ['lo'] }];
  if (families.some((family) => leavesSome(match, elsewhere, family))) return true;
  const within =
    option === 'outbound'
      ? outbound!.loopback === 'capture'
      : option === 'inbound' && mode === 'tproxy' && outbound?.hairpin !== undefined;
  if (!within || !(match.interfaces?.some((name) => nameCovers(name, 'lo')) ?? true)) return false;
  const here = { ...match, interfaces: ['lo'] };
  return families.some((family) => leavesSome(here, [...never, { sources: exempt.sources }], family));
}

/** Refuses owners that are the proxy's: what they send is left alone whatever else is said of them. */
function checkOwners({ outbound, exempt }: Settings): void {
  for (const list of ['include', 'exclude'] as const) {
    for (const [i, match] of outbound![list].entries()) {
      for (const field of ['uids', 'gids'] as const) {
        const own = match[field]?.find((id) => exempt[field].includes(id));
        if (own === undefined) continue;
        contradiction(
          `outbound.${list}[${i}].${field}: ${own} is in exempt.${field}, and so the proxy’s own`,
          'name it in one of the two',
        );
      }
    }
  }
}

/** Refuses what is to be captured and would not be. */
export function checkReach(option: 'outbound' | 'inbound' | 'gateway', settings: Settings): void {
  const { outbound } = settings;
  const direction = settings[option]!;
  if (option === 'outbound') checkOwners(settings);
  for (const [i, match] of direction.include.entries()) {
    const many = within(match.destinations, MANY);
    if (many !== undefined) {
      contradiction(`${option}.include[${i}]: ${many} is multicast, which is left alone`, 'leave it out');
    }
    const inside = withinHost(match);
    if (inside === undefined) continue;
    if (option === 'outbound' && outbound!.loopback === 'bypass') {
      contradiction(
        `outbound.include[${i}]: what has ${inside} stays within this host, which outbound.loopback leaves alone`,
        "set outbound.loopback to 'capture', or leave it out",
      );
    }
    const exempt = within(match.sources, settings.exempt.sources);
    if (exempt !== undefined) {
      contradiction(`${option}.include[${i}]: ${exempt} is in exempt.sources, and so the proxy’s own`);
    }
    // The proxy's own calls to this host come in there.
    const calls = option === 'inbound' && direction.mode === 'tproxy' && outbound?.hairpin !== undefined;
    if (option !== 'outbound' && !(inside === 'lo' && calls)) {
      contradiction(`${option}.include[${i}]: no packet of another host has ${inside}`, 'leave it out');
    }
  }
  for (const [i, match] of direction.include.entries()) {
    if (!captures(option, match, settings))
      contradiction(`${option}.include[${i}]: nothing of what it names would be captured`, 'leave it out');
  }
  if (direction.include.length === 0) {
    const vain = [
      direction.protocols.includes('udp') && 'protocols',
      direction.exclude.length > 0 && 'exclude',
      option === 'outbound' && outbound!.loopback === 'capture' && 'loopback',
      option === 'gateway' &&
        direction.mode === 'redirect' &&
        settings.gateway!.preserveSource &&
        'preserveSource',
    ].find((field) => field !== false);
    if (vain) contradiction(`${option}.include is empty, so ${vain} has no effect`, `leave ${vain} out`);
  }
}

/** Refuses resolvers that nobody asks: those of many hosts, and on a gateway those that no client of it can ask. */
export function checkServers({ dns, outbound, gateway, families }: Settings): void {
  if (dns?.servers === undefined) return;
  const { servers } = dns;
  const many = within(servers, MANY);
  if (many !== undefined) contradiction(`dns.servers: ${many} is multicast, which is left alone`);
  if (outbound !== undefined || gateway === undefined) return;
  const inside = within(servers, LOOPBACK);
  if (inside !== undefined) contradiction(`dns.servers: no packet of another host has ${inside}`);
  const { include } = gateway;
  const vain = families.find(
    (family) =>
      servers[family].length > 0 &&
      include.length > 0 &&
      include.every(({ sources }) => sources?.[family].length === 0),
  );
  if (vain !== undefined)
    contradiction(`dns.servers names ${vain} addresses, but gateway.include names no such sources`);
}

/** Are packets with marks routed to this host? */
export function isRouted({ outbound, inbound, gateway }: Settings): boolean {
  return (
    inbound?.sourceMark !== undefined ||
    (gateway !== undefined && gateway.preserveSource && gateway.include.length > 0) ||
    (outbound?.mode === 'tproxy' && outbound.include.length > 0)
  );
}

/** Marks and tables are for tproxy, and for answers that are brought back. */
export function checkRouting(settings: Settings, given: RulesConfig): void {
  const vain = (['mark', 'table'] as const).find((option) => given[option] !== undefined);
  if (vain !== undefined && !isRouted(settings))
    contradiction(`${vain}: nothing is routed without tproxy`, `leave ${vain} out, or use mode tproxy`);
}

/** Only calls of the proxy to this host, and what comes in by loopback, are asked whether they mean `localhost`. */
export function checkLocalhost({ outbound, inbound, exempt }: Settings, given: RulesConfig): void {
  const comesIn =
    inbound?.mode === 'tproxy' &&
    inbound.include.some(
      ({ sources, destinations }) => sources?.IPv4.length !== 0 && destinations?.IPv4.length !== 0,
    );
  const goesOut = outbound?.hairpin !== undefined && (inbound?.mode !== 'tproxy' || exempt.uids.length > 0);
  if (given.localhost === undefined || comesIn || goesOut) return;
  contradiction(
    'localhost: nothing is asked for it without outbound.hairpin and inbound tproxy',
    'leave it out',
  );
}
