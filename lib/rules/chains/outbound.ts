// Chains for what programs of this host dial.
import { notUnicast } from './unicast.ts';
import { outboundRefusals } from './otherwise.ts';
import {
  captures,
  exclusions,
  hairpinCalls,
  ownPackets,
  passthrough,
  perProtocol,
  programQueries,
  redirects,
  wholeExclusions,
} from './conditions.ts';
import type { Family } from '../config/config.ts';
import type { Settings } from '../config/settings.ts';
import type { Chain, Rule } from '../types.ts';

type Outbound = NonNullable<Settings['outbound']>;

/** The proxy's own calls to addresses of this host, as calls from outside. */
function hairpin(settings: Settings, { hairpin: option }: Outbound, family: Family): Rule[] {
  const { inbound, exempt } = settings;
  if (option === undefined) return [];
  const port = option.port ?? inbound!.port;
  // Under tproxy the group is for the mark of inbound's own chain, and the user's connections are redirected here.
  const byGroup = exempt.uids.length === 0 && inbound?.mode !== 'tproxy';
  const owners = byGroup ? exempt.gids.map((gid) => ({ gid })) : exempt.uids.map((uid) => ({ uid }));
  const calls = owners.map((owner): Rule => ({
    when: { ...hairpinCalls(settings, family), ...owner },
    action: { do: 'redirect', port },
    why: 'proxy calls this host',
  }));
  const borrowed = inbound?.mode === 'redirect' ? inbound.sourceMark : undefined;
  if (borrowed === undefined) return calls;
  const asClient: Rule = {
    when: { outInterfaces: ['lo'], mark: borrowed },
    action: { do: 'return' },
    why: 'proxy as client',
  };
  return [asClient, ...calls];
}

function exemptions(settings: Settings): Rule[] {
  return ownPackets(settings).map((when) => ({ when, action: { do: 'return' }, why: 'sent by the proxy' }));
}

function loopback({ dns }: Settings, { loopback: policy, protocols }: Outbound): Rule[] {
  if (policy === 'capture') return [];
  // Queries to a resolver on this host (127.0.0.53) are queries too.
  return protocols.map((protocol) => ({
    when: { protocol, outInterfaces: ['lo'], ...(dns ? { notPorts: ['53'] } : {}) },
    action: { do: 'return' },
    why: 'within this host',
  }));
}

/**
 * Decides on the first packet of each connection: nat chains see no other. Under tproxy it holds what only NAT
 * can do: DNS, and the proxy's calls to this host.
 */
function natChain(settings: Settings, outbound: Outbound, family: Family): Chain {
  const redirecting = outbound.mode === 'redirect';
  return {
    id: 'out',
    table: 'nat',
    hook: 'OUTPUT',
    rules: [
      ...notUnicast(outbound, family),
      ...wholeExclusions(outbound, family, 'out'),
      ...passthrough(settings, family, 'out'),
      ...hairpin(settings, outbound, family),
      ...exemptions(settings),
      ...(redirecting ? loopback(settings, outbound) : []),
      ...programQueries(settings, family).map((when): Rule => ({
        when,
        action: { do: 'redirect', port: settings.dns!.port },
        why: 'DNS query',
      })),
      ...(redirecting ? [...exclusions(outbound, family, 'out'), ...redirects(outbound, family, 'out')] : []),
    ],
  };
}

/**
 * A local program's packets cannot be handed to a socket on their way out: they are marked, which routes them to
 * loopback, and handed over when they come in there. As under NAT the first packet decides, and the connection's
 * mark remembers: connections that conntrack knew before the rules go on, and a packet that no socket owns any more
 * (a last ACK) goes where its connection goes.
 */
function markChain(settings: Settings, outbound: Outbound, family: Family): Chain {
  const captured = settings.mark + 2;
  return {
    id: 'out',
    table: 'mangle',
    hook: 'OUTPUT',
    rules: [
      { when: { reply: true }, action: { do: 'return' }, why: 'answer to somebody' },
      { when: { connmark: captured }, action: { do: 'deliver', mark: captured }, why: 'captured before' },
      { when: { state: 'not new' }, action: { do: 'return' }, why: 'decided before' },
      ...notUnicast(outbound, family),
      ...wholeExclusions(outbound, family, 'out'),
      ...passthrough(settings, family, 'out'),
      ...exemptions(settings),
      ...loopback(settings, outbound),
      ...programQueries(settings, family).map((when): Rule => ({
        when,
        action: { do: 'return' },
        why: 'DNS query',
      })),
      ...exclusions(outbound, family, 'out'),
      ...captures(outbound, family, 'out').map(({ when }): Rule => ({
        when,
        action: { do: 'connmark', mark: captured },
        why: 'captured connection',
      })),
      { when: { connmark: captured }, action: { do: 'deliver', mark: captured }, why: 'captured now' },
    ],
  };
}

function loopChain({ mark }: Settings, { port, protocols }: Outbound): Chain {
  return {
    id: 'loop',
    table: 'mangle',
    hook: 'PREROUTING',
    rules: protocols.map((protocol) => ({
      when: { protocol, inInterfaces: ['lo'], mark: mark + 2 },
      action: { do: 'tproxy', port, mark: mark + 2 },
      why: 'captured connection',
    })),
  };
}

/** The chains for connections that programs of this host make. */
export function outboundChains(settings: Settings, family: Family): Chain[] {
  const { outbound } = settings;
  if (outbound === undefined) return [];
  const nat = natChain(settings, outbound, family);
  const chains = nat.rules.some(({ action }) => action.do === 'redirect') ? [nat] : [];
  chains.push(...outboundRefusals(settings, family));
  if (outbound.mode === 'redirect' || perProtocol(outbound.include, ['tcp'], family, 'out').length === 0)
    return chains;
  return [loopChain(settings, outbound), markChain(settings, outbound, family), ...chains];
}
