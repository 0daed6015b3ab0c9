// What a relay server's policy may answer.
import { checkInteger, outOfRange } from '../arguments.ts';
import { MAX_MS } from './timeouts.ts';

/** What becomes of a connection: it is relayed to its destination, sent RST, or given to `'connection'`. */
export type RelayVerdict = 'relay' | 'reset' | 'emit';

/** A verdict that holds for the next connections to the same destination too, for `ttl` milliseconds. */
export interface LastingVerdict {
  action: 'relay' | 'reset';
  ttl: number;
}

/** What a policy may answer. */
export type RelayDecision = RelayVerdict | LastingVerdict;

export function isPromiseLike(
  decision: RelayDecision | PromiseLike<RelayDecision>,
): decision is PromiseLike<RelayDecision> {
  return typeof (decision as Partial<PromiseLike<unknown>> | undefined)?.then === 'function';
}

/** Throws unless it is a decision. */
export function readDecision(decision: unknown): { action: RelayVerdict; ttl: number } {
  if (decision === 'relay' || decision === 'reset' || decision === 'emit')
    return { action: decision, ttl: 0 };
  const { action, ttl } = (decision ?? {}) as LastingVerdict;
  if (action !== 'relay' && action !== 'reset') {
    throw outOfRange('verdict', "'relay', 'reset', 'emit' or { action: 'relay' | 'reset', ttl }", decision);
  }
  checkInteger('verdict.ttl', ttl, 0, MAX_MS);
  return { action, ttl };
}
