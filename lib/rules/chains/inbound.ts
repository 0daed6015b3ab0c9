// Chains for connections to this host.
import { notUnicast } from './unicast.ts';
import {
  captures,
  exclusions,
  hairpinCalls,
  passthrough,
  perProtocol,
  redirects,
  translatedConnections,
  wholeExclusions,
} from './conditions.ts';
import type { Family, Protocol } from '../config/config.ts';
import type { Settings } from '../config/settings.ts';
import type { Action, Chain, Condition, Rule } from '../types.ts';

type Inbound = NonNullable<Settings['inbound']>;

function notForThisHost(inbound: Inbound, family: Family): Rule[] {
  return inbound.scope === 'any'
    ? notUnicast(inbound, family)
    : [{ when: { notAddressType: 'local' }, action: { do: 'return' }, why: 'forwarded packet' }];
}

function allExclusions(inbound: Inbound, family: Family): Rule[] {
  return [...wholeExclusions(inbound, family, 'in'), ...exclusions(inbound, family, 'in')];
}

/** Loopback needs no rule: what a nat chain did not change on its way out (OUTPUT) no other one sees on its way in. */
function natChain(inbound: Inbound, family: Family): Chain {
  return {
    id: 'in',
    table: 'nat',
    hook: 'PREROUTING',
    rules: [
      ...notForThisHost(inbound, family),
      ...allExclusions(inbound, family),
      ...redirects(inbound, family, 'in'),
    ],
  };
}

/** What is captured, and what of it goes past the listener. */
function handOver(when: Condition & { protocol: Protocol }, port: number, mark: number): Rule[] {
  const captured = mark + 2;
  const tproxy: Rule = { when, action: { do: 'tproxy', port, mark }, why: 'captured connection' };
  // A datagram has no socket of its own: every one needs the listener, but answers to this host's own queries do not.
  if (when.protocol === 'udp')
    return [{ when: { ...when, reply: true }, action: { do: 'return' }, why: 'answer to this host' }, tproxy];
  // Past the listener, to the sockets that the addresses name: never a SYN. A client that the proxy has sent RST may come
  // again from the same port, and as long as conntrack remembers the connection before, it takes the SYN for a packet
  // of that: the client would get past the proxy.
  const deliver: Action = { do: 'deliver', mark };
  return [
    { when: { ...when, syn: false, reply: true }, action: deliver, why: 'answer to this host' },
    // What began before the rules. Not all that conntrack knows: the third packet of a handshake by SYN cookie has no
    // socket yet, and needs the listener.
    {
      when: { ...when, syn: false, state: 'known', notConnmark: captured },
      action: deliver,
      why: 'known connection',
    },
    { when, action: { do: 'connmark', mark: captured }, why: 'captured connection' },
    tproxy,
  ];
}

/**
 * The proxy dialled a local program with the client's address: the connection remembers, for the answers. A chain of its
 * own under redirect, whose chain sees no packet of it.
 */
function proxyAsClient({ mark }: Settings, { sourceMark }: Inbound): Rule {
  const action: Action = sourceMark === mark ? { do: 'save' } : { do: 'connmark', mark };
  return { when: { mark: sourceMark! }, action, why: 'proxy as client' };
}

function tproxyChain(settings: Settings, inbound: Inbound, family: Family): Chain {
  const { mark } = settings;
  return {
    id: 'in',
    table: 'mangle',
    hook: 'PREROUTING',
    rules: [
      proxyAsClient(settings, inbound),
      { when: { mark: inbound.sourceMark! }, action: { do: 'return' }, why: 'proxy as client' },
      ...passthrough(settings, family, 'in'),
      {
        when: { inInterfaces: ['lo'], notMark: mark + 1 },
        action: { do: 'return' },
        why: 'within this host',
      },
      // Not as a part of the rules below: those may name destinations, and iptables takes one -d a rule.
      {
        when: { destinations: [settings.localhost[family]] },
        action: { do: 'return' },
        why: 'loopback address',
      },
      ...notForThisHost(inbound, family),
      ...(inbound.protocols.includes('tcp') ? [translatedConnections(settings)] : []),
      ...allExclusions(inbound, family),
      ...captures(inbound, family, 'in').flatMap(({ when, port }) => handOver(when, port, mark)),
    ],
  };
}

/** Brings the answers of local programs to clients whose address the proxy borrowed back to the proxy. */
function answerChain(settings: Settings, { mode, sourceMark }: Inbound, family: Family): Chain {
  const { mark, outbound, exempt } = settings;
  const owners = mode === 'tproxy' && outbound?.hairpin ? exempt.gids : [];
  return {
    id: 'answer',
    table: 'mangle',
    hook: 'OUTPUT',
    rules: [
      {
        when: { outInterfaces: ['lo'], mark: sourceMark! },
        action: { do: 'return' },
        why: 'proxy as client',
      },
      ...owners.map((gid): Rule => ({
        when: { ...hairpinCalls(settings, family), gid },
        action: { do: 'mark', mark: mark + 1 },
        why: 'proxy calls this host',
      })),
      { when: { connmark: mark }, action: { do: 'restore' }, why: 'answer to the proxy' },
    ],
  };
}

/** The chains for connections that other hosts make to this one. */
export function inboundChains(settings: Settings, family: Family): Chain[] {
  const { inbound } = settings;
  if (inbound === undefined || perProtocol(inbound.include, ['tcp'], family, 'in').length === 0) return [];
  const nat = natChain(inbound, family);
  if (inbound.mode === 'redirect' && inbound.sourceMark === undefined) return [nat];
  const answers = answerChain(settings, inbound, family);
  if (inbound.mode === 'tproxy') return [tproxyChain(settings, inbound, family), answers];
  const rules = [proxyAsClient(settings, inbound)];
  return [{ id: 'in', table: 'mangle', hook: 'PREROUTING', rules }, answers, nat];
}
