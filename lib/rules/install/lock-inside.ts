// The lock of lock.ts in another network namespace, where its file is another one that only a process in there can open.
import { once } from 'node:events';
import type { Namespace } from '../../namespace/namespace.ts';
import { programPath } from '../../programs.ts';

/** What flock(1) ends with when somebody else has had the lock for all of the time. */
const BUSY = 75;

/**
 * Runs a process in there that has the lock until its standard input ends, which it also does when this process is killed.
 *
 * @returns how to unlock; `busy` if it was not to be had; undefined if the file cannot be opened
 */
export async function lockInside(
  namespace: Namespace,
  path: string,
  patienceMs: number,
): Promise<(() => Promise<void>) | 'busy' | undefined> {
  const wait = ['--wait', `${patienceMs / 1000}`, '--conflict-exit-code', `${BUSY}`];
  const child = namespace.spawn(programPath('flock'), [...wait, path, 'cat'], {
    root: true,
    // Ctrl-C at the terminal is for this process, which may be about to clean up.
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const ended = new Promise<number | null>((resolve) => {
    child.on('error', () => resolve(null));
    child.on('close', resolve);
  });
  // It may have ended before it was told to.
  child.stdin!.on('error', () => {});
  // cat(1) runs, and answers, once the lock is there.
  child.stdin!.write('?');
  const answered = once(child.stdout!, 'data').then(() => true);
  const status = await Promise.race([answered, ended]);
  if (status === true) {
    return async () => {
      child.stdin!.end();
      await ended;
    };
  }
  return status === BUSY ? 'busy' : undefined;
}
