// What a relay server's policy may answer.
import { checkInteger, MAX_MS, outOfRange } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { checkProxyServer, type ProxyServer, readDestination } from '../dial/proxy-server.ts';
import { ResolvedVia } from './by-name.ts';
import {
  checkTarget,
  isNamed,
  type NamedTarget,
  type ReadTarget,
  type RelayTarget,
  ResolvedTarget,
} from './target.ts';

/** What becomes of a connection: it is relayed to its destination, sent RST, or given to `'connection'`. */
export type RelayVerdict = 'relay' | 'reset' | 'emit';

/** A verdict that holds for the next connections to the same destination too, for `ttl` milliseconds. */
export interface LastingVerdict {
  action: 'relay' | 'reset';
  ttl: number;
}

/**
 * Relays another way than straight to where the client has dialled. The thread takes it by itself. With `ttl` it lasts,
 * as a {@link LastingVerdict}, with the addresses that names have had when it was made.
 */
export interface RoutedVerdict {
  action: 'relay';
  ttl?: number;
  /**
   * To another place, by its address or its name; or to the first of at most 16 that can be connected, tried in this
   * order for `connectTimeout` each, as long as no byte of the client's has gone out. Each is judged by itself. The
   * outcome's error is that of the last one, with those of the others in its `cause`.
   */
  to?: RelayTarget | NamedTarget | readonly (RelayTarget | NamedTarget)[];
  /**
   * By way of another proxy, as connectVia() does, with the same errors. `connectTimeout` holds for the connection to
   * the proxy, and once more for its handshake. A name in `address` is resolved as option `resolve` says.
   */
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
export interface ReadDecision extends Pick<RoutedVerdict, 'proxyProtocol'> {
  action: RelayVerdict;
  ttl: number;
  /** Names are resolved by now, unless a proxy is to do it. */
  to?: ReadTarget | readonly ReadTarget[];
  via?: ProxyServer | ResolvedVia;
}

const MOST_TARGETS = 16;

export function isPromiseLike(
  decision: RelayDecision | PromiseLike<RelayDecision>,
): decision is PromiseLike<RelayDecision> {
  return (
    typeof decision === 'object' &&
    typeof (decision as Partial<PromiseLike<unknown>> | null)?.then === 'function'
  );
}

function checkOneTarget(to: unknown, byProxy: boolean): void {
  if (byProxy && isNamed(to as ReadTarget)) readDestination(to, 'verdict.to');
  else if (!(to instanceof ResolvedTarget)) checkTarget('verdict.to', to);
}

/** Is there a route in it? Throws unless it is one that can be taken. */
function checkRoute({ to, via, proxyProtocol }: Omit<ReadDecision, 'action' | 'ttl'>): boolean {
  if (via !== undefined && !(via instanceof ResolvedVia)) checkProxyServer(via, 'verdict.via');
  if (proxyProtocol !== undefined && proxyProtocol !== 1 && proxyProtocol !== 2)
    throw outOfRange('verdict.proxyProtocol', '1 or 2', proxyProtocol);
  if (Array.isArray(to)) {
    if (to.length === 0 || to.length > MOST_TARGETS)
      throw outOfRange('verdict.to.length', `1 to ${MOST_TARGETS}`, to.length);
    for (const one of to) checkOneTarget(one, via !== undefined);
  } else if (to !== undefined) {
    checkOneTarget(to, via !== undefined);
  }
  return to !== undefined || via !== undefined || proxyProtocol !== undefined;
}

/** What most policies say. */
const PLAIN = {
  relay: { action: 'relay', ttl: 0 },
  reset: { action: 'reset', ttl: 0 },
  emit: { action: 'emit', ttl: 0 },
} as const;

/** Throws unless it is a decision. */
export function readDecision(decision: unknown): ReadDecision {
  if (decision === 'relay' || decision === 'reset' || decision === 'emit') return PLAIN[decision];
  const { action, ttl, ...route } = (decision ?? {}) as Partial<LastingVerdict & RoutedVerdict>;
  if (action !== 'relay' && action !== 'reset') {
    throw outOfRange('verdict', "'relay', 'reset', 'emit' or { action: 'relay' | 'reset', ttl }", decision);
  }
  if (checkRoute(route as Omit<ReadDecision, 'action' | 'ttl'>)) {
    if (ttl !== undefined) checkInteger('verdict.ttl', ttl, 0, MAX_MS);
    if (action === 'relay')
      return { action, ttl: ttl ?? 0, ...(route as Omit<ReadDecision, 'action' | 'ttl'>) };
    throw codedError(
      'ERR_INVALID_ARG_VALUE',
      '"verdict.to", "via" and "proxyProtocol" go with action \'relay\'',
      { base: TypeError },
    );
  }
  checkInteger('verdict.ttl', ttl, 0, MAX_MS);
  return { action, ttl };
}
