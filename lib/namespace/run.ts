// Runs a tool in a namespace to its end.
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { programPath, searchPath } from '../programs.ts';
import { type Entrance, spawnInside } from './enter.ts';

export interface RunOptions {
  /** What it reads from standard input. Default: nothing. */
  input?: string;
  /** Aborting it ends the tool. */
  signal?: AbortSignal;
}

export interface RunResult {
  /** Of exit(3); null if a signal ended it. */
  status: number | null;
  stdout: string;
  stderr: string;
}

/** As root of the namespace, with what it prints in English. */
export async function runInside(
  entrance: Entrance,
  [name, ...args]: readonly [string, ...string[]],
  { input = '', signal }: RunOptions,
): Promise<RunResult> {
  const options = {
    env: { ...process.env, LC_ALL: 'C', PATH: searchPath() },
    ...(signal === undefined ? {} : { signal }),
  };
  const command = [programPath(name), ...args] as const;
  const child = spawnInside(entrance, command, true, options) as ChildProcessWithoutNullStreams;
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  // It may have ended, or never begun, before it read all: its status tells.
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, stdout, stderr };
}
