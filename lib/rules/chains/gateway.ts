// Chains for connections that pass through this host.
import { notForwarded } from './unicast.ts';
import {
  captures,
  exclusions,
  perProtocol,
  queries,
  redirects,
  toConditions,
  translatedConnections,
  wholeExclusions,
  widest,
} from './conditions.ts';
import { forwardRefusals } from './otherwise.ts';
import type { Family } from '../config/config.ts';
import type { Match } from '../config/match.ts';
import type { Settings } from '../config/settings.ts';
import type { Chain, Condition, Rule } from '../types.ts';

type Gateway = NonNullable<Settings['gateway']>;

/** Where captured connections come from: a gateway has another side too, which is not its business. */
function clientSides({ include }: Gateway, family: Family): readonly Match[] {
  const sides = include.map(({ interfaces, sources }) => ({
    ...(interfaces ? { interfaces } : {}),
    ...(sources ? { sources } : {}),
  }));
  // Without ports and destinations some of them may be the same, or hold others.
  return widest(sides, family);
}

function clientQueries(settings: Settings, gateway: Gateway, family: Family): Condition[] {
  return perProtocol(clientSides(gateway, family), ['tcp'], family, 'in').flatMap((client) =>
    queries(settings, family).map((query) => ({ ...client, ...query })),
  );
}

function natChain(settings: Settings, gateway: Gateway, family: Family): Chain {
  const redirecting = gateway.mode === 'redirect';
  return {
    id: 'gw',
    table: 'nat',
    hook: 'PREROUTING',
    rules: [
      ...notForwarded(gateway, family),
      ...wholeExclusions(gateway, family, 'in'),
      ...clientQueries(settings, gateway, family).map((when): Rule => ({
        when,
        action: { do: 'redirect', port: settings.dns!.port },
        why: 'DNS query',
      })),
      ...(redirecting ? [...exclusions(gateway, family, 'in'), ...redirects(gateway, family, 'in')] : []),
    ],
  };
}

/** What comes in, first: by loopback nothing, and answers to connections that the proxy made with a client's address. */
function answers({ mark }: Settings, { protocols }: Gateway): Rule[] {
  return [
    { when: { inInterfaces: ['lo'] }, action: { do: 'return' }, why: 'within this host' },
    ...protocols.map((protocol): Rule => ({
      when: { protocol, transparentSocket: true },
      action: { do: 'deliver', mark },
      why: 'answer to the proxy',
    })),
  ];
}

function tproxyChain(settings: Settings, gateway: Gateway, family: Family): Chain {
  const { mark } = settings;
  const captured = mark + 2;
  return {
    id: 'gw',
    table: 'mangle',
    hook: 'PREROUTING',
    rules: [
      ...answers(settings, gateway),
      ...notForwarded(gateway, family),
      // As under NAT the first packet decides: forwarded connections that conntrack knew before the rules go on.
      { when: { state: 'not new', notConnmark: captured }, action: { do: 'return' }, why: 'decided before' },
      ...(gateway.protocols.includes('tcp') ? [translatedConnections(settings)] : []),
      ...wholeExclusions(gateway, family, 'in'),
      ...clientQueries(settings, gateway, family).map((when): Rule => ({
        when,
        action: { do: 'return' },
        why: 'DNS query',
      })),
      ...exclusions(gateway, family, 'in'),
      ...captures(gateway, family, 'in').flatMap(({ when, port }): Rule[] => [
        { when, action: { do: 'connmark', mark: captured }, why: 'captured connection' },
        { when, action: { do: 'tproxy', port, mark }, why: 'captured connection' },
      ]),
    ],
  };
}

/** The chains for connections between other hosts by way of this one. */
export function gatewayChains(settings: Settings, family: Family): Chain[] {
  const { gateway } = settings;
  if (gateway === undefined) return [];
  const nat = natChain(settings, gateway, family);
  const chains = nat.rules.some(({ action }) => action.do === 'redirect') ? [nat] : [];
  const sides = clientSides(gateway, family).flatMap((side) => toConditions(side, family, 'in'));
  chains.push(...forwardRefusals(settings, family, sides));
  if (perProtocol(gateway.include, ['tcp'], family, 'in').length === 0) return chains;
  if (gateway.mode === 'redirect') {
    const back: Chain = {
      id: 'gw',
      table: 'mangle',
      hook: 'PREROUTING',
      rules: answers(settings, gateway),
    };
    return gateway.preserveSource ? [back, ...chains] : chains;
  }
  return [tproxyChain(settings, gateway, family), ...chains];
}
