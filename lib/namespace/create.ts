// Why a namespace cannot be made, and what to do about it.
import { existsSync, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { binding } from '../binding.ts';
import { codedError, systemError, type CodedError } from '../errors.ts';

const { EACCES, ENOSPC, EPERM } = constants.errno;
/** Too many users; what Linux before 4.9 says in the place of ENOSPC. node:os does not know it. */
const EUSERS = 87;

/** enum CreateStep of src/namespace/create.h: the call that failed. */
const CALLS = ['clone', 'uid_map', 'open', 'ioctl'] as const;

/** The switches that forbid user namespaces to ordinary users: where, which value forbids, what allows them again. */
const SWITCHES = [
  {
    file: '/proc/sys/kernel/unprivileged_userns_clone',
    forbids: '0',
    remedy: 'sudo sysctl -w kernel.unprivileged_userns_clone=1',
  },
  {
    file: '/proc/sys/kernel/apparmor_restrict_unprivileged_userns',
    forbids: '1',
    remedy: 'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
  },
  {
    file: '/proc/sys/user/max_user_namespaces',
    forbids: '0',
    remedy: 'sudo sysctl -w user.max_user_namespaces=10000',
  },
  {
    file: '/proc/sys/user/max_net_namespaces',
    forbids: '0',
    remedy: 'sudo sysctl -w user.max_net_namespaces=10000',
  },
] as const;

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/** The seccomp mode of this process: 2 is a filter, as containers have. */
function underSeccomp(): boolean {
  return /^Seccomp:\s*2$/m.test(read('/proc/self/status'));
}

/** What to do about it, where the machine says why: a command, mostly. */
export function namespaceRemedy(
  errno: number,
  readFile: (file: string) => string = read,
  inContainer: () => boolean = () => underSeccomp() || existsSync('/.dockerenv'),
): string | undefined {
  const off = SWITCHES.find(({ file, forbids }) => readFile(file).trim() === forbids);
  if (off !== undefined) return `${off.file} is ${off.forbids}: ${off.remedy}`;
  if (errno === -ENOSPC || errno === -EUSERS) {
    return 'there are as many namespaces as user.max_user_namespaces and user.max_net_namespaces allow, or this process is in 32 of them nested into each other already: sudo sysctl -w user.max_user_namespaces=10000 user.max_net_namespaces=10000';
  }
  if (errno !== -EPERM && errno !== -EACCES) return undefined;
  if (inContainer()) {
    return 'this container’s seccomp profile or security module forbids it: start the container with `docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined …`, or run the command outside of it';
  }
  return 'user namespaces are forbidden to this user (a security module, a seccomp filter, chroot(2), or a node binary with file capabilities): run as root';
}

/** Which system call failed, and why a namespace cannot be made here. */
export function cannotCreate(errno: number, step: number): CodedError {
  const cause = systemError(errno, { syscall: CALLS[step]! });
  const hint = namespaceRemedy(errno);
  return codedError(
    'ERR_NAMESPACE_UNAVAILABLE',
    `No network namespace can be made here: ${cause.message}`,
    hint === undefined ? { cause } : { hint, cause },
  );
}

/** `clone(2)` with CLONE_NEWNET, and CLONE_NEWUSER unless root: a descriptor of a new namespace, or why there is none. */
export function createNetworkNamespace(): number | CodedError {
  const made = binding().createNamespace();
  return typeof made === 'number' ? made : cannotCreate(...made);
}
