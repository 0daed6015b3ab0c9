// The plan of a proxy that takes no new connections.
import type { Family } from '../config/config.ts';
import { directQueries } from './dns-zones.ts';
import type { Action, Chain, Rule, RulePlan } from '../types.ts';

/**
 * Not `ct state new`: conntrack says so of packets in the middle of a connection that it has lost, too, and of none
 * that others keep from it.
 */
const NEW_CONNECTION: Rule = {
  when: { protocol: 'tcp', syn: true },
  action: { do: 'return' },
  why: 'new connection',
};

const CAPTURING = new Set<Action['do']>(['redirect', 'tproxy', 'connmark', 'mark']);

/** Does the rule choose what goes to the proxy? What has a mark already was chosen by another. */
function captures({ when, action }: Rule): boolean {
  return CAPTURING.has(action.do) && when.mark === undefined;
}

/**
 * A rule for packets that come in. TPROXY drops what finds neither a socket nor a listener: with the listener closed,
 * and no conntrack to tell, also the second packet of a connection whose first one has passed. So only what is known
 * to be the proxy's is handed over: to conntrack, as handshakes under way are, or by its socket.
 */
function handOver(rule: Rule): Rule[] {
  const { when, action } = rule;
  if ((action.do === 'connmark' && captures(rule)) || when.state === 'known' || when.translated) return [];
  if (action.do !== 'tproxy' || !captures(rule)) return [rule];
  const deliver: Action = { do: 'deliver', mark: action.mark };
  return [
    { when: { ...when, state: 'known' }, action: deliver, why: 'known connection' },
    { when: { ...when, transparentSocket: true }, action: deliver, why: 'connection of the proxy' },
  ];
}

/** A rule for packets on their way out: datagrams are not led back any more, whatever their flow is marked as. */
function leadBack(rule: Rule): Rule[] {
  const { when, action, why } = rule;
  return action.do === 'deliver' ? [{ when: { protocol: 'tcp', ...when }, action, why }] : [rule];
}

/** What is not captured any more is not refused either: it goes where its client meant it to go. */
function refuses({ table }: Chain): boolean {
  return table === 'filter';
}

function drainChain(chain: Chain): Chain {
  const rules = chain.rules.filter((rule) => !captures(rule) || rule.when.protocol === 'tcp');
  const first = rules.findIndex(captures);
  if (first >= 0) rules.splice(first, 0, NEW_CONNECTION);
  if (chain.table !== 'mangle') return { ...chain, rules };
  return { ...chain, rules: rules.flatMap(chain.hook === 'PREROUTING' ? handOver : leadBack) };
}

/**
 * The plan for a proxy that is about to end: it captures nothing new and keeps what is established going. TCP
 * connections that begin from now on go straight to where their clients meant them to go, and so do datagrams and
 * DNS queries, but for flows that NAT has translated already.
 *
 * {@link remove} alone would break every open connection: with the last nat chain of a network namespace the kernel
 * stops translating established connections too, and without rules and routes no packet finds its way to a
 * socket at a foreign address. So, at the end of a proxy:
 *
 * ```ts
 * await apply(draining(plan)); // in one transaction; the listener is still open
 * server.close(); // not before: until then connections arrive, which would be reset
 * await ended; // all open connections, to the last byte: RST and FIN have to be translated too
 * await remove(plan.name);
 * ```
 *
 * It goes by the name of the plan: `remove` takes it away, and {@link apply} of the plan takes it back, also after the
 * proxy was killed meanwhile. Pure: it asks neither the system nor the environment.
 */
export function draining(plan: RulePlan): RulePlan {
  const chains = Object.entries(plan.chains) as [Family, readonly Chain[]][];
  return {
    ...plan,
    chains: Object.fromEntries(
      chains
        .map(([family, own]) => [family, directQueries(own.filter((chain) => !refuses(chain)))] as const)
        .filter(([, own]) => own.length > 0)
        .map(([family, own]) => [family, own.map((chain) => drainChain(chain))]),
    ),
  };
}
