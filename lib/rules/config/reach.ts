// Refuses settings that would be accepted and do nothing: what cannot be captured, and what nothing is captured for.
import type { Family, RulesConfig } from './config.ts';
import { covers, formatAddresses, MULTICAST, parseCidr, type Range } from './ranges.ts';
import { contradiction } from './refusals.ts';
import type { Match, Settings } from './settings.ts';

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6'];

/** Addresses that no packet of another interface has. */
const LOOPBACK = { IPv4: [parseCidr('', '127.0.0.0/8')], IPv6: [parseCidr('', '::1')] };
const MANY = { IPv4: [parseCidr('', MULTICAST.IPv4)], IPv6: [parseCidr('', MULTICAST.IPv6)] };

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

/** Refuses what is to be captured and would not be. */
export function checkReach(option: 'outbound' | 'inbound' | 'gateway', settings: Settings): void {
  const { outbound } = settings;
  const direction = settings[option]!;
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
  if (direction.include.length === 0) {
    const vain = [
      direction.protocols.includes('udp') && 'protocols',
      direction.exclude.length > 0 && 'exclude',
      option === 'outbound' && outbound!.loopback === 'capture' && 'loopback',
    ].find((field) => field !== false);
    if (vain) contradiction(`${option}.include is empty, so ${vain} has no effect`, `leave ${vain} out`);
  }
}

/** Refuses resolvers of a family in which a gateway has no clients. */
export function checkServers({ dns, outbound, gateway, families }: Settings): void {
  if (dns?.servers === undefined || outbound !== undefined || gateway === undefined) return;
  const { servers } = dns;
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

/** Marks and tables are for tproxy. */
export function checkRouting({ outbound, inbound, gateway }: Settings, given: RulesConfig): void {
  const routed = [outbound, inbound, gateway].some(
    (direction) => direction?.mode === 'tproxy' && direction.include.length > 0,
  );
  const vain = (['mark', 'table'] as const).find((option) => given[option] !== undefined);
  if (vain !== undefined && !routed)
    contradiction(`${vain}: nothing is routed without tproxy`, `leave ${vain} out, or use mode tproxy`);
}
