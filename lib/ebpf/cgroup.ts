// cgroup v2 as directories: where one is, which number it has, and whether this process is in it.
import { readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { codedError, type CodedError } from '../errors.ts';

/** PROC_CGROUP_INIT_INO of the kernel's include/linux/proc_ns.h. */
const FIRST_NAMESPACE = 'cgroup:[4026531835]';

function notFound(message: string, hint: string): CodedError {
  return codedError('ERR_CAPTURE_CGROUP', message, { hint });
}

/** Where cgroup v2 is mounted. On a hybrid system that is not /sys/fs/cgroup. */
export function cgroupMount(mounts = readFileSync('/proc/self/mountinfo', 'utf8')): string {
  for (const line of mounts.split('\n')) {
    const [, , , root, point] = line.split(' ');
    if (root === '/' && / - cgroup2 /.test(line)) return point!;
  }
  throw notFound('cgroup v2 is not mounted', '`mount -t cgroup2 none /sys/fs/cgroup`');
}

/** The directory of a cgroup that is given by its path below the mount point, or by its whole path. */
export function cgroupDirectory(path: string): string {
  const mount = cgroupMount();
  const directory = path.startsWith(`${mount}/`) || path === mount ? path : join(mount, path);
  if (statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return directory;
  throw notFound(
    `There is no cgroup ${directory}`,
    `\`mkdir ${directory}\`, and put the programs in before they open sockets`,
  );
}

/** What the kernel calls a cgroup, and how deep it lies. */
export function cgroupIdentity(
  path: string,
  namespace = readlinkSync('/proc/self/ns/cgroup'),
): { id: bigint; level: number } {
  const directory = cgroupDirectory(path);
  if (namespace !== FIRST_NAMESPACE) {
    throw notFound(
      'From inside a cgroup namespace it cannot be seen how deep a cgroup lies',
      'exempt the proxy by a uid or a mark',
    );
  }
  const below = directory.slice(cgroupMount().length).split('/').filter(Boolean);
  return { id: statSync(directory, { bigint: true }).ino, level: below.length };
}

/** Is this process in that cgroup, or below it? */
export function isInside(directory: string, own = readFileSync('/proc/self/cgroup', 'utf8')): boolean {
  const path = /^0::(.*)$/m.exec(own)?.[1] ?? '/';
  return `${join(cgroupMount(), path)}/`.startsWith(`${directory}/`);
}
