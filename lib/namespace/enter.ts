// The command that runs another one in a namespace.
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { accessSync, constants, readlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { codedError } from '../errors.ts';
import { childProcess } from '../node/on-demand.ts';
import { findProgram } from '../programs.ts';
import { missingTools, type Tool } from './tools.ts';

/** What there is to be entered, by descriptors of this process. */
export interface Entrance {
  net: number;
  /** The user namespace that owns it, if this process is in another one. */
  owner?: number;
  /** Made by this user: in there is a root who is this user, and nobody else. */
  rootless: boolean;
}

function tool(name: Tool): string {
  const missing = missingTools([name]);
  if (missing === undefined) return findProgram(name)!;
  throw codedError('ERR_NAMESPACE_TOOL_MISSING', missing.why, {
    hint: `install the package util-linux: sudo ${missing.remedy}`,
  });
}

/** Is there such a command for execvp(3), with that PATH? */
function exists(command: string, options: SpawnOptions): boolean {
  const runs = (path: string): boolean => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  const { cwd: where = '.' } = options;
  const cwd = where instanceof URL ? fileURLToPath(where) : where;
  if (command.includes('/')) return runs(resolve(cwd, command));
  const path = (options.env ?? process.env)['PATH'] ?? '/usr/bin:/bin';
  return path.split(':').some((directory) => runs(resolve(cwd, directory, command)));
}

/** No path below it will ever be one: processes are counted from 1. */
const NOWHERE = '/proc/0/';

/**
 * As child_process.spawn, of nsenter(1), which enters by setns(2) and becomes the command: the child is the command
 * itself in the end, with the same id.
 *
 * @param asRoot as the root of a user namespace, who has all rights over the network namespace
 */
export function spawnInside(
  entrance: Entrance,
  command: readonly [string, ...string[]],
  asRoot: boolean,
  options: SpawnOptions,
): ChildProcess {
  const [name] = command;
  if (exists(name, options)) {
    const [program, ...args] = commandInside(entrance, command, asRoot);
    return childProcess().spawn(program, args, options);
  }
  // Never by its own name: if it is found all the same, it would run out here.
  const child = childProcess().spawn(`${NOWHERE}${name}`, command.slice(1), options);
  return child.prependOnceListener('error', (error: NodeJS.ErrnoException) => {
    error.message = `spawn ${name} ENOENT`;
    error.path = name;
    error.syscall = `spawn ${name}`;
  });
}

function commandInside(
  entrance: Entrance,
  command: readonly [string, ...string[]],
  asRoot: boolean,
): [string, ...string[]] {
  // The child is this thread's, and there already; to enter again would take a right.
  if (readlinkSync(`/proc/self/fd/${entrance.net}`) === readlinkSync('/proc/thread-self/ns/net'))
    return [...command];
  const held = (fd: number): string => `/proc/${process.pid}/fd/${fd}`;
  const enter = [`--net=${held(entrance.net)}`, '--'];
  if (entrance.owner === undefined) return [tool('nsenter'), ...enter, ...command];
  // Groups cannot be given up where they could not be taken.
  const owned = [
    tool('nsenter'),
    '--preserve-credentials',
    `--user=${held(entrance.owner)}`,
    ...enter,
  ] as const;
  if (asRoot || !entrance.rootless) return [...owned, ...command];
  // Under its own name again, in a user namespace below the owner's: as root of that it would have the rights that
  // undo the rules which capture it, and many a program behaves otherwise for root.
  const self = [`--map-user=${process.geteuid!()}`, `--map-group=${process.getegid!()}`, '--'];
  return [...owned, tool('unshare'), '--user', ...self, ...command];
}
