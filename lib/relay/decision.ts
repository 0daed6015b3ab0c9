// What a relay server's policy may answer.
import { checkInteger, MAX_MS, outOfRange } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { checkTarget, type RelayTarget } from './target.ts';

/** What becomes of a connection: it is relayed to its destination, sent RST, or given to `'connection'`. */
export type RelayVerdict = 'relay' | 'reset' | 'emit';

/** A verdict that holds for the next connections to the same destination too, for `ttl` milliseconds. */
export interface LastingVerdict {
  action: 'relay' | 'reset';
  ttl: number;
}

/** Relays to another place than the one that the client dialled. It does not last. */
export interface RoutedVerdict {
  action: 'relay';
  to: RelayTarget;
}

/** What a policy may answer. */
export type RelayDecision = RelayVerdict | LastingVerdict | RoutedVerdict;

/** The same, every part of it. */
export interface ReadDecision {
  action: RelayVerdict;
  ttl: number;
  to?: RelayTarget;
}

export function isPromiseLike(
  decision: RelayDecision | PromiseLike<RelayDecision>,
): decision is PromiseLike<RelayDecision> {
  return typeof (decision as Partial<PromiseLike<unknown>> | undefined)?.then === 'function';
}

/** Throws unless it is a decision. */
export function readDecision(decision: unknown): ReadDecision {
  if (decision === 'relay' || decision === 'reset' || decision === 'emit')
    return { action: decision, ttl: 0 };
  const { action, ttl, to } = (decision ?? {}) as Partial<LastingVerdict & RoutedVerdict>;
  if (action !== 'relay' && action !== 'reset') {
    throw outOfRange('verdict', "'relay', 'reset', 'emit' or { action: 'relay' | 'reset', ttl }", decision);
  }
  if (to !== undefined) {
    checkTarget('verdict.to', to);
    if (action === 'relay' && ttl === undefined) return { action, ttl: 0, to };
    throw codedError('ERR_INVALID_ARG_VALUE', '"verdict.to" goes with action \'relay\', and without "ttl"', {
      base: TypeError,
    });
  }
  checkInteger('verdict.ttl', ttl, 0, MAX_MS);
  return { action, ttl };
}
