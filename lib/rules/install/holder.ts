// The process whose rules they are: another one must neither take them over nor remove them unasked.
import { readFileSync, statSync } from 'node:fs';
import { codedError, type CodedError } from '../../errors.ts';
import { printable } from './printable.ts';

/** A process, told from a later one with the same number. */
export interface Holder {
  pid: number;
  /** When it began, in clock ticks since the machine did: field 22 of /proc/PID/stat, proc_pid_stat(5). */
  start: number;
  /** The inode of its pid namespace, in which the number is meant. */
  namespace: number;
}

interface Running {
  pid: number;
  start: number;
  command: string;
}

/** A process that has not ended; undefined for another. */
function readProcess(pid: number | 'self'): Running | undefined {
  let words, stat;
  try {
    // Before it is looked at whether it still runs: it may end at any moment.
    words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The name, in parentheses, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state = ''] = fields;
  if (/[ZXx]/.test(state)) return undefined;
  const command = printable(words.join(' ').trim().slice(0, 100));
  return { pid: Number.parseInt(stat), start: Number(fields[19]), command };
}

export function thisProcess(): Holder {
  const { pid, start } = readProcess('self')!;
  return { pid, start, namespace: statSync('/proc/self/ns/pid').ino };
}

export function sameHolder(a: Holder, b: Holder): boolean {
  return a.pid === b.pid && a.start === b.start && a.namespace === b.namespace;
}

/** The error if another process, which still runs, holds the rules. One of another pid namespace cannot be seen. */
export function heldByAnother(holder: Holder | undefined, name: string): CodedError | undefined {
  const me = thisProcess();
  if (holder === undefined || sameHolder(holder, me) || holder.namespace !== me.namespace) return undefined;
  const { pid } = holder;
  const running = readProcess(pid);
  if (running?.start !== holder.start) return undefined;
  const error = codedError(
    'ERR_RULES_HELD',
    `process ${pid} holds the rules called ${name}: ${running.command}`,
    {
      hint: 'end it, choose another name, or ask for takeOver',
    },
  );
  return Object.assign(error, { pid });
}
