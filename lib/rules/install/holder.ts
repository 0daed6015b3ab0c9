// The process whose rules they are: another one must neither take them over nor remove them unasked.
import { statSync } from 'node:fs';
import { codedError, type CodedError } from '../../errors.ts';
import { hostFiles } from '../../host-files.ts';
import { processStat } from '../../recover/process-stat.ts';
import { printable } from './printable.ts';

/** A process, told from a later one with the same number. */
export interface Holder {
  pid: number;
  /** When it began, in clock ticks since the machine did. */
  start: number;
  /** The inode of its pid namespace, in which the number is meant. */
  namespace: number;
}

export function thisProcess(): Holder {
  const { pid, started } = processStat('self')!;
  return { pid, start: started, namespace: statSync('/proc/self/ns/pid').ino };
}

/** What the holder runs; undefined when it has ended. */
function commandOf({ pid, start }: Holder): string | undefined {
  // Before it is looked at whether it still runs: it may end at any moment.
  const command = hostFiles.read(`/proc/${pid}/cmdline`);
  const stat = processStat(pid);
  if (command === undefined || stat?.started !== start || /[ZXx]/.test(stat.state)) return undefined;
  return printable(command.replaceAll('\0', ' ').trim().slice(0, 100));
}

function sameHolder(a: Holder, b: Holder): boolean {
  return a.pid === b.pid && a.start === b.start && a.namespace === b.namespace;
}

/** The error if another process, which still runs, holds the rules. One of another pid namespace cannot be seen. */
export function heldByAnother(holder: Holder | undefined, name: string): CodedError | undefined {
  const me = thisProcess();
  if (holder === undefined || sameHolder(holder, me) || holder.namespace !== me.namespace) return undefined;
  const { pid } = holder;
  const command = commandOf(holder);
  if (command === undefined) return undefined;
  const error = codedError('ERR_RULES_HELD', `process ${pid} holds the rules called ${name}: ${command}`, {
    hint: 'end it, choose another name, or ask for takeOver',
  });
  return Object.assign(error, { pid });
}
