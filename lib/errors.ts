// The one place that makes errors: of a system call's negative errno, or with a stable code of this package.
import { getSystemErrorMap } from 'node:util';

/** An error of this package: a stable `code` (`ERR_…`) and, where something can be done, a `hint`. */
export interface CodedError extends Error {
  code: string;
  hint?: string;
}

/** An error of a system call, in the shape of Node's own, with a `hint` where something can be done. */
export interface SystemError extends NodeJS.ErrnoException {
  code: string;
  errno: number;
  syscall: string;
  address?: string;
  port?: number;
  hint?: string;
}

/** What a system call was about, for the error's properties and for its hint. */
export interface SystemErrorContext {
  syscall: string;
  /** The socket option, when the call is getsockopt or setsockopt. */
  option?: string;
  address?: string;
  port?: number;
  /** What can be done about it, where the caller knows better than the list below. */
  hint?: string;
}

const CAPABILITY_REMEDY =
  'run as root, or start it with `setpriv --inh-caps=+net_admin --ambient-caps=+net_admin …`, ' +
  'or grant it once with `setcap cap_net_admin+ep "$(readlink -f "$(command -v node)")"`; ' +
  'in a container add the capability NET_ADMIN';

function conntrackHint(code: string): string | undefined {
  if (code === 'EPERM') {
    return `only conntrack knows, and asking it needs CAP_NET_ADMIN in the user namespace that owns this network namespace: ${CAPABILITY_REMEDY}`;
  }
  if (code === 'ENOENT') {
    return 'conntrack is active here but has no entry for this flow: it was flushed, timed out, the rules say notrack, or they put it into a zone that was not asked for';
  }
  if (code === 'EEXIST') {
    return 'several conntrack zones have an entry for this flow, with different destinations: ask for one zone only';
  }
  if (code !== 'EPROTONOSUPPORT' && code !== 'EINVAL') return undefined;
  return 'only conntrack knows, and this kernel cannot be asked: load nf_conntrack_netlink (`modprobe nf_conntrack_netlink`)';
}

function hintFor(code: string, context: SystemErrorContext): string | undefined {
  const { syscall, option } = context;
  if (code === 'EPERM' && (option === 'IP_TRANSPARENT' || option === 'SO_MARK')) {
    return `${option} needs CAP_NET_ADMIN (or CAP_NET_RAW) in the user namespace that owns this network namespace: ${CAPABILITY_REMEDY}`;
  }
  if (option === 'IPCTNL_MSG_CT_GET') return conntrackHint(code);
  if (code === 'ENOPROTOOPT' && option === 'SO_ORIGINAL_DST') {
    return 'this kernel has no connection tracking: load nf_conntrack (`modprobe nf_conntrack`); gVisor and qemu-user have none to offer';
  }
  if (code === 'ENOENT' && option === 'SO_ORIGINAL_DST') {
    return 'conntrack is active here but has no entry for this connection: it was flushed, timed out, or the rules say notrack';
  }
  if (code === 'EADDRINUSE' && (option === 'SO_ORIGINAL_DST' || option === 'SOCK_DIAG_BY_FAMILY')) {
    return 'segments have come to this connection’s socket that it could not use: if they were another connection’s, so is the conntrack entry. With CAP_NET_ADMIN conntrack is asked whether they were';
  }
  if (code === 'ENOTCONN' && syscall === 'getpeername') {
    return 'the connection has been reset: its addresses are free for another one, which conntrack’s entry may be about';
  }
  if (code === 'ENOTCONN' && option === 'SOCK_DIAG_BY_FAMILY') {
    return 'the first subflow of this MPTCP connection is over: its addresses are free for another one, which conntrack’s entry may be about';
  }
  if (code === 'EPERM' && syscall === 'setns') {
    return 'the socket is of another network namespace, whose addresses this process may not ask for: that needs CAP_NET_ADMIN and CAP_SYS_ADMIN in the user namespace that owns it, as root has, and whoever made it';
  }
  if (code === 'EADDRINUSE' && syscall === 'bind' && context.port) {
    return 'another socket of this host holds that address and port: do not ask for the client’s port, or allow a fall-back';
  }
  if (code === 'EADDRNOTAVAIL' && syscall === 'bind') {
    return 'this host does not have that address: a foreign one needs `transparent`';
  }
  return undefined;
}

/** Node makes a new map for each who asks, of all errors. */
let known: ReturnType<typeof getSystemErrorMap> | undefined;

/**
 * The one place that makes an Error of a negative errno.
 * The shape is that of Node's uvExceptionWithHostPort: `code`, negative `errno`, `syscall`, `address`, `port`.
 */
export function systemError(errno: number, context: SystemErrorContext): SystemError {
  known ??= getSystemErrorMap();
  const [code, text] = known.get(errno) ?? [`E${-errno}`, 'unknown error'];
  const { syscall, option, address, port } = context;
  const hint = context.hint ?? hintFor(code, context);
  const call = option === undefined ? syscall : `${syscall} ${option}`;
  const at = address === undefined ? '' : ` ${address}${port ? `:${port}` : ''}`;
  const error = new Error(`${call} ${code}: ${text}${at}${hint === undefined ? '' : ` (${hint})`}`);
  Error.captureStackTrace(error, systemError);
  return Object.assign(error, {
    errno,
    code,
    syscall,
    ...(address === undefined ? {} : { address }),
    ...(port === undefined ? {} : { port }),
    ...(hint === undefined ? {} : { hint }),
  });
}

/** The one place that makes an Error with a code of this package or of Node's argument checks. */
export function codedError(
  code: string,
  message: string,
  options: { hint?: string; base?: ErrorConstructor; cause?: unknown } = {},
): CodedError {
  const { hint, base: Base = Error, cause } = options;
  const text = hint === undefined ? message : `${message} (${hint})`;
  const error = new Base(text, cause === undefined ? undefined : { cause });
  Error.captureStackTrace(error, codedError);
  return Object.assign(error, { code, ...(hint === undefined ? {} : { hint }) });
}
