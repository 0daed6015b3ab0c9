// What a relay server's policy may answer.
import { checkInteger, MAX_MS, outOfRange } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { checkProxyServer, type ProxyServer, readDestination } from '../dial/proxy-server.ts';
import { checkTarget, isNamed, type NamedTarget, type RelayTarget, ResolvedTarget } from './target.ts';

/** What becomes of a connection: it is relayed to its destination, sent RST, or given to `'connection'`. */
export type RelayVerdict = 'relay' | 'reset' | 'emit';

/** A verdict that holds for the next connections to the same destination too, for `ttl` milliseconds. */
export interface LastingVerdict {
  action: 'relay' | 'reset';
  ttl: number;
}

/** Relays another way than straight to where the client has dialled. It does not last. */
export interface RoutedVerdict {
  action: 'relay';
  /** To another place, by its address or its name. */
  to?: RelayTarget | NamedTarget;
  /** By way of another proxy, as connectVia() does. Node's sockets dial then, and the thread relays. */
  via?: ProxyServer;
  /**
   * Sends a header of the PROXY protocol ahead of the client's bytes: with the client's address and where it has
   * dialled; version 2 also with the name in `to` or in the first bytes (PP2_TYPE_AUTHORITY) and sixteen random bytes (PP2_TYPE_UNIQUE_ID).
   */
  proxyProtocol?: 1 | 2;
}

/** What a policy may answer. */
export type RelayDecision = RelayVerdict | LastingVerdict | RoutedVerdict;

/** The same, every part of it. */
export interface ReadDecision extends Omit<RoutedVerdict, 'action' | 'to'> {
  action: RelayVerdict;
  ttl: number;
  /** A name is resolved by now, unless a proxy is to do it. */
  to?: RelayTarget | NamedTarget | ResolvedTarget;
}

export function isPromiseLike(
  decision: RelayDecision | PromiseLike<RelayDecision>,
): decision is PromiseLike<RelayDecision> {
  return typeof (decision as Partial<PromiseLike<unknown>> | undefined)?.then === 'function';
}

/** Is there a route in it? Throws unless it is one that can be taken. */
function checkRoute({ to, via, proxyProtocol }: Omit<ReadDecision, 'action' | 'ttl'>): boolean {
  if (via !== undefined) checkProxyServer(via, 'verdict.via');
  if (proxyProtocol !== undefined && proxyProtocol !== 1 && proxyProtocol !== 2)
    throw outOfRange('verdict.proxyProtocol', '1 or 2', proxyProtocol);
  if (via !== undefined && isNamed(to)) readDestination(to, 'verdict.to');
  else if (to !== undefined && !(to instanceof ResolvedTarget)) checkTarget('verdict.to', to);
  return to !== undefined || via !== undefined || proxyProtocol !== undefined;
}

/** Throws unless it is a decision. */
export function readDecision(decision: unknown): ReadDecision {
  if (decision === 'relay' || decision === 'reset' || decision === 'emit')
    return { action: decision, ttl: 0 };
  const { action, ttl, ...route } = (decision ?? {}) as Partial<LastingVerdict & RoutedVerdict>;
  if (action !== 'relay' && action !== 'reset') {
    throw outOfRange('verdict', "'relay', 'reset', 'emit' or { action: 'relay' | 'reset', ttl }", decision);
  }
  if (checkRoute(route)) {
    if (action === 'relay' && ttl === undefined) return { action, ttl: 0, ...route };
    throw codedError(
      'ERR_INVALID_ARG_VALUE',
      '"verdict.to", "via" and "proxyProtocol" go with action \'relay\', and without "ttl"',
      { base: TypeError },
    );
  }
  checkInteger('verdict.ttl', ttl, 0, MAX_MS);
  return { action, ttl };
}
