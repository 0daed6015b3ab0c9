// One at a time: whoever reads what is installed and changes it then must not meet another who does the same.
import { closeSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { binding } from '../../binding.ts';
import { codedError } from '../../errors.ts';
import type { Namespace } from '../../namespace/namespace.ts';
import { lockInside } from './lock-inside.ts';

/**
 * What is locked: a file that each network namespace has of its own and that only its root, or a process with
 * CAP_NET_ADMIN in it, can open. It goes with the namespace and leaves nothing behind.
 *
 * A file below /run would have to be writable: not in a user namespace, nor for a proxy that is not root. The
 * namespace's own file, /proc/self/ns/net, can be opened and locked by everybody, who could so keep root from removing
 * rules. Containers that share a network namespace and have a /proc of their own do not see each other here.
 */
const LOCKED = '/proc/sys/net/ipv4/tcp_fastopen_key';

const PATIENCE_MS = 60_000;
const PAUSE_MS = 20;

/** How to unlock, in the end. */
type Unlock = () => Promise<void> | void;

/**
 * The lock of this network namespace. Undefined: this process may not open the file, so it may not change rules either,
 * whatever runs its commands for it.
 */
async function lockHere(path: string, patience: number): Promise<Unlock | 'busy' | undefined> {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    return undefined;
  }
  const deadline = performance.now() + patience;
  // It fails for no other reason than that somebody has it.
  while (binding().lockFile(fd) !== 0) {
    if (performance.now() >= deadline) {
      closeSync(fd);
      return 'busy';
    }
    await delay(PAUSE_MS);
  }
  return () => closeSync(fd);
}

export interface LockOptions {
  /** Where the rules are; undefined: where this process is. */
  namespace?: Namespace | undefined;
  path?: string;
  patience?: number;
}

/**
 * Runs the body while no other process runs one for the same network namespace.
 *
 * @throws `ERR_RULES_BUSY` after a minute of waiting
 */
export async function locked<T>(
  body: () => Promise<T>,
  { namespace, path = LOCKED, patience = PATIENCE_MS }: LockOptions = {},
): Promise<T> {
  const unlock = await (namespace ? lockInside(namespace, path, patience) : lockHere(path, patience));
  if (unlock === undefined) return body();
  if (unlock === 'busy') {
    throw codedError('ERR_RULES_BUSY', `another process has been changing rules for ${patience / 1000} s`, {
      hint: `find it: lsof ${path}`,
    });
  }
  try {
    return await body();
  } finally {
    await unlock();
  }
}
