// proc(5): which process has a socket open, and what it is.
import { hostFiles } from '../host-files.ts';
import { processStat } from './process-stat.ts';

/** A process that has dialled. */
export interface ClientProcess {
  /** As this process sees it: in its own pid namespace. */
  pid: number;
  /** The effective user id, in this process's user namespace. */
  uid: number;
  /** Its arguments, the program's own name first, as the process shows them. */
  command: readonly string[];
  /** The path in the unified cgroup hierarchy; undefined where there is none. Source: cgroups(7). */
  cgroup: string | undefined;
}

/** The descriptor by which a process has the socket. */
function descriptorOf(pid: number, inode: number): string | undefined {
  const directory = `/proc/${pid}/fd`;
  return hostFiles.list(directory).find((fd) => hostFiles.link(`${directory}/${fd}`) === `socket:[${inode}]`);
}

/** Of a family that shares the socket the eldest: a shell, and not the command that it runs. */
function eldest(pid: number, inode: number): number {
  const parent = processStat(pid)?.parent;
  if (!parent || descriptorOf(parent, inode) === undefined) return pid;
  return eldest(parent, inode);
}

/** Those that had a socket of somebody's before: whoever has dialled dials again. */
const recent = new Set<number>();
const MOST_RECENT = 16;

function remember(pid: number): void {
  recent.delete(pid);
  recent.add(pid);
  const [oldest] = recent;
  if (recent.size > MOST_RECENT) recent.delete(oldest!);
}

/** A process that has the socket with this inode open; undefined when none is to be seen. */
export function holderOf(inode: number): number | undefined {
  const has = (pid: number): boolean => descriptorOf(pid, inode) !== undefined;
  // The latest first: it has come after what runs for ever.
  const found =
    [...recent].toReversed().find(has) ??
    hostFiles
      .list('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .sort((a, b) => b - a)
      .find(has);
  if (found === undefined) return undefined;
  const holder = eldest(found, inode);
  remember(holder);
  return holder;
}

/** What the process is that has the socket; undefined when it has ended or has closed it meanwhile. */
export function describeHolder(pid: number, inode: number): ClientProcess | undefined {
  const before = processStat(pid);
  const read = (file: string): string | undefined => hostFiles.read(`/proc/${pid}/${file}`);
  const [status, command, cgroups] = [read('status'), read('cmdline'), read('cgroup')];
  if (status === undefined || command === undefined || cgroups === undefined) return undefined;
  const stillThere = descriptorOf(pid, inode) !== undefined && processStat(pid)?.started === before?.started;
  if (!stillThere) return undefined;
  return {
    pid,
    uid: Number(/^Uid:\t\d+\t(\d+)/m.exec(status)![1]),
    command: command.replace(/\0$/, '').split('\0'),
    cgroup: /^0::(.*)$/m.exec(cgroups)?.[1],
  };
}
