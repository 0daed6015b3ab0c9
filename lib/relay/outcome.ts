// How relays end, and what moves their bytes.
import type { CodedError, SystemError } from '../errors.ts';

/** One of a relay's two sockets. */
export type RelaySide = 'client' | 'upstream';

/** How a relay came to its end. */
export type RelayOutcome =
  /** Both directions ended and every byte was handed over. */
  | { reason: 'end' }
  /** `side` broke the connection (RST, or it reads no more); the other side was sent RST. */
  | { reason: 'reset'; side: RelaySide }
  /** Nothing moved for as long as `idleTimeout` or `halfCloseTimeout` allows. */
  | { reason: 'idle' }
  /** `destroy()`, the AbortSignal, or (with `side`) somebody destroyed that socket before the relay had it. */
  | { reason: 'aborted'; side?: RelaySide }
  /** A system call failed, on `side`'s socket where that is known; both sides were sent RST. */
  | { reason: 'error'; side?: RelaySide; error: SystemError | CodedError };

/** An outcome in a word or three: an error's code, `reset by client`, or the reason. */
export function outcomeText(outcome: RelayOutcome): string {
  if (outcome.reason === 'error') return outcome.error.code;
  return outcome.reason === 'reset' ? `reset by ${outcome.side}` : outcome.reason;
}

/** What is left to a relay once its sockets are handed over: implemented by the addon's thread, or by streams. */
export interface Mover {
  bytesToUpstream(): number;
  bytesToClient(): number;
  destroy(): void;
  /** Does it keep the event loop alive? */
  keepAlive(on: boolean): void;
}
