// What makes it hard: entries are deleted, rules change, the proxies stand still.
import { setTimeout as delay } from 'node:timers/promises';
import type { Lane } from './kinds.ts';
import { startFlushing, type Server } from './programs.ts';
import { Random } from './random-numbers.ts';
import { change, CHANGES } from './world.ts';

const STATES = Object.keys(CHANGES) as (keyof typeof CHANGES)[];

export interface Storm {
  flushes: number;
  changes: number;
  stops: number;
}

/** Goes on until the signal is aborted, and then leaves the rules as it found them. */
export async function storm(
  directory: string,
  servers: Record<Lane['proxy'], Server>,
  seed: number,
  signal: AbortSignal,
): Promise<Storm> {
  const random = new Random(seed);
  const done: Storm = { flushes: 0, changes: 0, stops: 0 };
  const flushing = {
    gateway: startFlushing(directory, 'gateway', seed),
    changing: startFlushing(directory, 'changing', seed + 1),
  };
  const flush = async (): Promise<void> => {
    const answer = flushing.changing.said('now');
    flushing.changing.write('\n');
    await answer;
  };
  const settle = async (): Promise<void> => servers.changing.settle();
  for (const server of Object.values(servers)) server.tell({ pauses: true });

  const stopping = async (): Promise<void> => {
    while (!signal.aborted) {
      await delay(30 + random.below(300));
      // Now and then long enough for a SYN to be sent again, and for the entries of what was reset to end.
      const ms = random.below(20) === 0 ? 300 + random.below(1200) : 5 + random.below(45);
      random.pick(Object.values(servers)).stop(ms);
      done.stops++;
      await delay(ms);
    }
  };
  const changing = async (): Promise<void> => {
    while (!signal.aborted) {
      await change(random.pick(STATES), { flush, settle });
      done.changes++;
      await delay(10 + random.below(300));
    }
  };
  await Promise.all([stopping(), changing()]);

  await change('redirect', { flush, settle });
  for (const server of Object.values(servers)) server.tell({ pauses: false });
  for (const one of Object.values(flushing)) {
    const times = one.said('flushed');
    const ended = one.end();
    done.flushes += Number(await times);
    await ended;
  }
  return done;
}
