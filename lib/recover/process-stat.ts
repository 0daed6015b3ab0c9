// proc_pid_stat(5): a process at one moment.
import { hostFiles } from '../host-files.ts';

/** The same number may be another process's later: by its beginning the two are told apart. */
export interface ProcessStat {
  /** In the pid namespace of `/proc`. */
  pid: number;
  /** One letter: `Z` and `X` have ended. */
  state: string;
  parent: number;
  /** In clock ticks since the machine began: field 22. */
  started: number;
}

/** Undefined: there is none, or it may not be looked at. */
export function processStat(pid: number | 'self'): ProcessStat | undefined {
  const stat = hostFiles.read(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // The name in brackets may hold anything, also brackets and spaces.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return {
    pid: Number.parseInt(stat),
    state: fields[0]!,
    parent: Number(fields[1]),
    started: Number(fields[19]),
  };
}
