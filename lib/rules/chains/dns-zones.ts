// Conntrack zones that keep the proxy's DNS queries apart from everybody else's.
import { excludedOwners, ownPackets, programQueries, queries, wholeExclusions } from './conditions.ts';
import type { Family } from '../config/config.ts';
import type { Settings } from '../config/settings.ts';
import type { Chain, Condition, Rule } from '../types.ts';

const PROXY_ZONE = 1;
const PROGRAM_ZONE = 2;

function zoneRule(when: Condition, zone: number): Rule {
  const why = zone === PROXY_ZONE ? 'proxy and its resolvers' : 'programs and the proxy';
  return { when, action: { do: 'zone', zone }, why };
}

/** Queries of programs that ask their resolvers themselves: in the zone in which the answers are looked up. */
function otherQuery(when: Condition): Rule {
  return { when, action: { do: 'zone', zone: PROXY_ZONE }, why: 'programs and resolvers' };
}

/**
 * Keeps the proxy's queries and those of the programs apart in conntrack. In one zone, a program that happens to
 * use the source port of one of the proxy's queries to the same resolver meets that query's entry: its packet is
 * no new connection, and no nat chain sees it.
 */
export function dnsZoneChains(settings: Settings, family: Family): Chain[] {
  const { dns, outbound, gateway } = settings;
  const datagrams = queries(settings, family).filter(({ protocol }) => protocol === 'udp');
  if (dns === undefined || outbound === undefined || datagrams.length === 0) return [];
  // The answers of resolvers to the proxy cannot be told from those that a gateway forwards, whose queries were
  // translated (masquerade) in the default zone: there the proxy stays in that zone too. Two zones are enough.
  const apart = gateway === undefined;
  const own = [...ownPackets(settings), ...excludedOwners(outbound)];
  const captured = programQueries(settings, family).filter(({ protocol }) => protocol === 'udp');
  const others = captured.some(({ uid, gid }) => (uid ?? gid) !== undefined);
  // What is not captured stays where a firewall expects it.
  const alone = (side: 'in' | 'out'): Rule[] =>
    wholeExclusions(outbound, family, side).filter(({ when }) => when.inInterfaces ?? when.outInterfaces);
  const output = [
    ...alone('out'),
    ...own.flatMap((owner): Rule[] => [
      apart
        ? zoneRule({ protocol: 'udp', ports: ['53'], ...owner }, PROXY_ZONE)
        : {
            when: { protocol: 'udp', ports: ['53'], ...owner },
            action: { do: 'return' },
            why: 'proxy and its resolvers',
          },
      zoneRule({ protocol: 'udp', outInterfaces: ['lo'], sourcePort: dns.port, ...owner }, PROGRAM_ZONE),
    ]),
    ...captured.map((query) => zoneRule(query, PROGRAM_ZONE)),
    ...(others && apart ? datagrams.map(otherQuery) : []),
  ];
  const answers = datagrams.map(({ destinations }) =>
    zoneRule(
      { protocol: 'udp', sourcePort: 53, ...(destinations ? { sources: destinations } : {}) },
      PROXY_ZONE,
    ),
  );
  return [
    { id: 'zone-o', table: 'raw', hook: 'OUTPUT', rules: output },
    ...(apart
      ? [
          {
            id: 'zone-i',
            table: 'raw',
            hook: 'PREROUTING',
            rules: [...alone('in'), ...answers],
          } satisfies Chain,
        ]
      : []),
  ];
}

/**
 * The same chains for programs that ask the resolvers themselves. In their old zone a firewall would take the answers for
 * uncalled-for. What the proxy still answers stays where it was.
 */
export function directQueries(chains: readonly Chain[]): readonly Chain[] {
  const apart = chains.some(({ table, hook }) => table === 'raw' && hook === 'PREROUTING');
  return chains.map((chain) => ({
    ...chain,
    rules: chain.rules.flatMap((rule) => {
      const { when, action } = rule;
      const captured = action.do === 'zone' && action.zone === PROGRAM_ZONE && when.sourcePort === undefined;
      if (!captured) return [rule];
      return apart ? [otherQuery(when)] : [];
    }),
  }));
}
