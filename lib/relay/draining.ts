// The end of a relay server as a promise, for as long as somebody will wait.
import { checkSignal } from '../arguments.ts';
import { codedError, type CodedError } from '../errors.ts';
import type { RelayServer } from './types.ts';

export interface DrainOptions {
  /** Aborting it ends the waiting, and nothing else: `destroy()` ends what is left. */
  signal?: AbortSignal;
}

/** Why the waiting has ended before the connections had. */
export interface DrainError extends CodedError {
  code: 'ERR_DRAIN_ABORTED';
  /** How many connections were left: open relays, and connections that were not decided about. */
  left: number;
}

/** Closes the server, and waits for all that it has. */
export async function drain(
  server: RelayServer,
  left: () => number,
  { signal }: DrainOptions = {},
): Promise<void> {
  checkSignal('options.signal', signal);
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      const count = left();
      const error = codedError('ERR_DRAIN_ABORTED', `${count} connections had not come to their end`, {
        hint: 'destroy() ends them; or wait for longer',
        cause: signal!.reason,
      });
      reject(Object.assign(error, { left: count }));
    };
    server.close(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}
