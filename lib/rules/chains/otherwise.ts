// Chains that refuse at once what is not captured: a port or a protocol that nobody thought of is no way round.
import { capturedOwners, exclusions, ownPackets, passthrough, wholeExclusions } from './conditions.ts';
import type { Family } from '../config/config.ts';
import type { Direction, Settings } from '../config/settings.ts';
import type { Chain, Condition, Rule } from '../types.ts';
import { notUnicast } from './unicast.ts';

/**
 * A connection that nobody has refused goes on, and so do answers. By its flags: after `conntrack -F` a packet in the
 * middle of one counts as new. Never a SYN: conntrack may take it for a packet of a connection that was there before.
 */
const UNDER_WAY: Rule = {
  when: { protocol: 'tcp', syn: false },
  action: { do: 'return' },
  why: 'connection under way',
};

/** Where NAT sends what it redirects on its way out (net/netfilter/nf_nat_redirect.c). */
const REDIRECTED: Record<Family, string> = { IPv4: '127.0.0.1/32', IPv6: '::1/128' };

/** Whatever is captured: what is left alone is so in every protocol. */
function everyProtocol(direction: Direction): Direction {
  return { ...direction, protocols: ['tcp', 'udp'] };
}

/** Of what comes so far. ICMP carries no connection, and IP does not work without it. */
function refusals(from: readonly Condition[]): Rule[] {
  return [
    ...from.map((when): Rule => ({
      when: { ...when, protocol: 'tcp', syn: true },
      action: { do: 'reject', with: 'reset' },
      why: 'not captured',
    })),
    { when: { state: 'not new' }, action: { do: 'return' }, why: 'decided before' },
    { when: { protocol: 'icmp' }, action: { do: 'return' }, why: 'control message' },
    ...from.map((when): Rule => ({
      when,
      action: { do: 'reject', with: 'unreachable' },
      why: 'not captured',
    })),
  ];
}

/** For what programs of this host send. The hook's packets have the destination that NAT has given them. */
export function outboundRefusals(settings: Settings, family: Family): Chain[] {
  const { outbound, mark } = settings;
  if (outbound?.otherwise !== 'reject') return [];
  const all = everyProtocol(outbound);
  // The interface is that of the packet's first destination: it does not tell what was redirected.
  const loopback: Rule[] =
    outbound.loopback === 'bypass'
      ? [{ when: { outInterfaces: ['lo'] }, action: { do: 'return' }, why: 'within this host' }]
      : [];
  return [
    {
      id: 'rej-out',
      table: 'filter',
      hook: 'OUTPUT',
      rules: [
        UNDER_WAY,
        {
          when: { destinations: [REDIRECTED[family]], translated: true },
          action: { do: 'return' },
          why: 'redirected to the proxy',
        },
        ...(outbound.mode === 'tproxy'
          ? [
              {
                when: { mark: mark + 2 },
                action: { do: 'return' },
                why: 'routed to the proxy',
              } satisfies Rule,
            ]
          : []),
        ...passthrough(settings, family, 'out'),
        ...ownPackets(settings).map((when): Rule => ({
          when,
          action: { do: 'return' },
          why: 'sent by the proxy',
        })),
        ...loopback,
        ...notUnicast(all, family),
        ...wholeExclusions(all, family, 'out'),
        ...exclusions(all, family, 'out'),
        ...refusals(capturedOwners(outbound, family)),
      ],
    },
  ];
}

/** For what passes through this host: captured connections do not get there. `sides`: where clients' packets come from. */
export function forwardRefusals({ gateway }: Settings, family: Family, sides: readonly Condition[]): Chain[] {
  if (gateway?.otherwise !== 'reject') return [];
  const all = everyProtocol(gateway);
  return [
    {
      id: 'rej-fwd',
      table: 'filter',
      hook: 'FORWARD',
      rules: [
        UNDER_WAY,
        ...notUnicast(all, family),
        ...wholeExclusions(all, family, 'in'),
        ...exclusions(all, family, 'in'),
        ...refusals(sides),
      ],
    },
  ];
}
