// Work that a signal must not end half way.
import { setTimeout as delay } from 'node:timers/promises';

/** How long a signal may take from kill(2) to its listeners. */
const DELIVERY_MS = 50;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Runs to its end; a signal that arrives meanwhile takes effect after it. */
export async function uninterrupted<T>(work: () => Promise<T>): Promise<T> {
  let arrived: NodeJS.Signals | undefined;
  const hold = (signal: NodeJS.Signals): void => {
    arrived = signal;
  };
  for (const signal of SIGNALS) process.on(signal, hold);
  try {
    return await work();
  } finally {
    for (const signal of SIGNALS) process.off(signal, hold);
    if (arrived !== undefined) {
      process.kill(process.pid, arrived);
      // Here only if somebody listens for it, who is told by the event loop: not after the process has ended by itself.
      await delay(DELIVERY_MS);
    }
  }
}
