// Why a namespace cannot be made, and what to do about it.
import { constants } from 'node:os';
import { binding } from '../binding.ts';
import { codedError, systemError, type CodedError } from '../errors.ts';
import { hostFiles, type HostFiles } from '../host-files.ts';

const { EACCES, ENOSPC, EPERM } = constants.errno;
/** Too many users; what Linux before 4.9 says in the place of ENOSPC. node:os does not know it. */
const EUSERS = 87;

/** enum CreateStep of src/namespace/create.h: the call that failed. */
const CALLS = ['clone', 'uid_map', 'open', 'ioctl', 'disable_ipv6'] as const;

/** Why there can be no namespace. */
export interface Obstacle {
  why: string;
  /** What to do about it: a command. */
  remedy?: string;
  /** Who may run it. */
  by?: 'root';
}

/** The switches that forbid user namespaces to ordinary users: which value forbids, which allows them again. */
const SWITCHES = [
  { name: 'kernel.unprivileged_userns_clone', forbids: '0', allows: '1' },
  { name: 'kernel.apparmor_restrict_unprivileged_userns', forbids: '1', allows: '0' },
  { name: 'user.max_user_namespaces', forbids: '0', allows: '10000' },
  { name: 'user.max_net_namespaces', forbids: '0', allows: '10000' },
] as const;

/** As the doctor's Host has it. */
export type ReadFile = HostFiles['read'];

/** Two marks of a container: the seccomp mode of this process, of which 2 is a filter, and Docker's file. */
function inContainer(readFile: ReadFile): boolean {
  return /^Seccomp:\s*2$/m.test(readFile('/proc/self/status') ?? '') || readFile('/.dockerenv') !== undefined;
}

/** What the machine says of why it was refused; undefined where it says nothing. */
export function namespaceObstacle(errno: number, readFile: ReadFile = hostFiles.read): Obstacle | undefined {
  const path = (name: string): string => `/proc/sys/${name.replaceAll('.', '/')}`;
  const off = SWITCHES.find(({ name, forbids }) => readFile(path(name))?.trim() === forbids);
  if (off !== undefined) {
    const { name, forbids, allows } = off;
    return { why: `${path(name)} is ${forbids}`, remedy: `sysctl -w ${name}=${allows}`, by: 'root' };
  }
  if (errno === -ENOSPC || errno === -EUSERS) {
    return {
      why: 'there are as many namespaces as user.max_user_namespaces and user.max_net_namespaces allow, or this process is in 32 of them nested into each other already',
      remedy: 'sysctl -w user.max_user_namespaces=10000 user.max_net_namespaces=10000',
      by: 'root',
    };
  }
  if (errno !== -EPERM && errno !== -EACCES) return undefined;
  if (inContainer(readFile)) {
    return {
      why: 'this container’s seccomp profile or security module forbids it; run the command outside of it, or start the container without',
      remedy: 'docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined …',
    };
  }
  return {
    why: 'user namespaces are forbidden to this user (a security module, a seccomp filter, chroot(2), or a node binary with file capabilities): run it as root',
  };
}

/** Which system call failed, and why a namespace cannot be made here. */
export function cannotCreate(errno: number, step: number, readFile?: ReadFile): CodedError {
  const cause = systemError(errno, { syscall: CALLS[step]! });
  const { why, remedy, by } = namespaceObstacle(errno, readFile) ?? {};
  const command = remedy && `: ${by === 'root' ? 'sudo ' : ''}${remedy}`;
  return codedError(
    'ERR_NAMESPACE_UNAVAILABLE',
    `No network namespace can be made here: ${cause.message}`,
    why === undefined ? { cause } : { hint: `${why}${command ?? ''}`, cause },
  );
}

/** `clone(2)` with CLONE_NEWNET, and CLONE_NEWUSER unless root: a descriptor of a new namespace, or why there is none. */
export function createNetworkNamespace(ipv4Only: boolean): number | CodedError {
  const made = binding().createNamespace(ipv4Only);
  return typeof made === 'number' ? made : cannotCreate(...made);
}
