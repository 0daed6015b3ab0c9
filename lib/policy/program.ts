// Which process stands for the whole program: what its threads and cluster workers tell each other hangs on it.
import { readFileSync } from 'node:fs';
import { cluster, workerThreads } from '../node/on-demand.ts';

let firstProcess: number | undefined;

/** Is this one of a cluster's workers? Also where `cluster` does not know: in the threads of such a worker. */
function inClusterWorker(): boolean {
  if (workerThreads().isMainThread) return cluster().isWorker;
  try {
    return `\0${readFileSync('/proc/self/environ', 'latin1')}`.includes('\0NODE_UNIQUE_ID=');
    /* c8 ignore start -- only for a node binary with file capabilities, whose /proc files are root's */
  } catch {
    return false;
  }
  /* c8 ignore stop */
}

/** The pid that stands for the whole program: the cluster's primary, or this process. */
export function program(): number {
  return (firstProcess ??= inClusterWorker() ? process.ppid : process.pid);
}
