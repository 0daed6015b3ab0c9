// The system calls on bare descriptors: SO_ORIGINAL_DST, IP_TRANSPARENT, IP_FREEBIND, SO_MARK.
import { constants } from 'node:os';
import type { Endpoint } from './address.ts';
import { binding } from './binding.ts';
import { checkBoolean, checkFd, checkInteger } from './arguments.ts';
import { codedError, systemError } from './errors.ts';
import { endpointAt, Role } from './recover/kernel-answer.ts';

const { ENOENT, ENOPROTOOPT, EOPNOTSUPP } = constants.errno;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;

/**
 * Throws ERR_INVALID_FD_TYPE unless the descriptor is of that kind: a refusal may have come from that, or from the
 * kernel's configuration.
 */
export function refuseOtherSockets(
  call: string,
  fd: number,
  wanted: 'a TCP socket' | 'an IPv4 or IPv6 socket',
): Endpoint['family'] {
  const kind = binding().socketKind(fd);
  if (typeof kind === 'number') throw systemError(kind, { syscall: 'getsockopt', option: 'SO_DOMAIN' });
  const [domain, type] = kind;
  const internet = domain === AF_INET || domain === AF_INET6;
  if (internet && (type === SOCK_STREAM || wanted !== 'a TCP socket'))
    return domain === AF_INET ? 'IPv4' : 'IPv6';
  const is = internet && type === SOCK_DGRAM ? 'a UDP socket' : `a socket of family ${domain}, type ${type}`;
  throw codedError('ERR_INVALID_FD_TYPE', `${call} needs ${wanted}; fd ${fd} is ${is}`, { base: TypeError });
}

function setOption(option: string, fd: number, status: number): void {
  if (status === 0) return;
  if (status === -ENOPROTOOPT || status === -EOPNOTSUPP)
    refuseOtherSockets(option, fd, 'an IPv4 or IPv6 socket');
  throw systemError(status, { syscall: 'setsockopt', option });
}

/**
 * `getsockopt(fd, SOL_IP, SO_ORIGINAL_DST)` or `getsockopt(fd, SOL_IPV6, IP6T_SO_ORIGINAL_DST)`, whichever fits
 * the connection: the destination that conntrack remembers for it.
 *
 * Exactly what the kernel says, no more: a connection that nobody redirected is answered with its own local
 * address, and an entry that conntrack made from the wrong end with the client's. {@link recoverOriginalDst}
 * tells those apart.
 *
 * @param fd an accepted TCP socket
 * @returns the kernel's answer, or null where it has none: `ENOENT` (no conntrack entry), `ENOPROTOOPT` (no
 *   conntrack), `ENOTSUP` (MPTCP)
 * @throws a system error (`EBADF`, `ENOTSOCK`, …), `ERR_INVALID_FD_TYPE`, `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`
 * Capability: none. Source: net/netfilter/nf_conntrack_proto.c, getorigdst and ipv6_getorigdst.
 */
export function getOriginalDst(fd: number): Endpoint | null {
  checkFd(fd);
  const answer = binding().getOriginalDst(fd);
  if (answer === 0) return endpointAt(Role.scratch);
  if (answer === -ENOENT) return null;
  refuseOtherSockets('getOriginalDst', fd, 'a TCP socket');
  if (answer === -ENOPROTOOPT || answer === -EOPNOTSUPP) return null;
  throw systemError(answer, { syscall: 'getsockopt', option: 'SO_ORIGINAL_DST' });
}

/**
 * `setsockopt(fd, SOL_IP, IP_TRANSPARENT)` or `setsockopt(fd, SOL_IPV6, IPV6_TRANSPARENT)` by the socket's family:
 * the socket may be handed connections to foreign addresses by a TPROXY rule, and may bind to foreign addresses.
 * Accepted sockets inherit it from the listener.
 *
 * @throws `EPERM` without CAP_NET_ADMIN or CAP_NET_RAW, `EBADF`, `ENOTSOCK`, `ERR_INVALID_FD_TYPE`, argument errors
 * Source: ip(7), Documentation/networking/tproxy.rst.
 */
export function setTransparent(fd: number, on = true): void {
  checkFd(fd);
  checkBoolean('on', on);
  setOption('IP_TRANSPARENT', fd, binding().setTransparent(fd, on));
}

/**
 * `getsockopt(fd, SOL_IP, IP_TRANSPARENT)` or `getsockopt(fd, SOL_IPV6, IPV6_TRANSPARENT)`.
 *
 * @throws `EBADF`, `ENOTSOCK`, `ERR_INVALID_FD_TYPE`, argument errors
 * Capability: none. Source: ip(7).
 */
export function getTransparent(fd: number): boolean {
  checkFd(fd);
  const answer = binding().getTransparent(fd);
  if (answer < 0) {
    refuseOtherSockets('getTransparent', fd, 'an IPv4 or IPv6 socket');
    throw systemError(answer, { syscall: 'getsockopt', option: 'IP_TRANSPARENT' });
  }
  return answer === 1;
}

/**
 * `setsockopt(fd, SOL_IP, IP_FREEBIND)` or `setsockopt(fd, SOL_IPV6, IPV6_FREEBIND)`: the socket may bind to an
 * address that this host does not have (yet).
 *
 * @throws `EBADF`, `ENOTSOCK`, `ERR_INVALID_FD_TYPE`, argument errors
 * Capability: none. Source: ip(7).
 */
export function setFreebind(fd: number, on = true): void {
  checkFd(fd);
  checkBoolean('on', on);
  setOption('IP_FREEBIND', fd, binding().setFreebind(fd, on));
}

/**
 * `setsockopt(fd, SOL_SOCKET, SO_MARK)`: marks every packet of the socket, for `ip rule fwmark` and for rules that
 * exempt a proxy's own traffic.
 *
 * @param mark 0 to 2³² − 1
 * @throws `EPERM` without CAP_NET_ADMIN (or, from Linux 5.17, CAP_NET_RAW), `EBADF`, `ENOTSOCK`, argument errors
 * Source: socket(7).
 */
export function setMark(fd: number, mark: number): void {
  checkFd(fd);
  checkInteger('mark', mark, 0, 2 ** 32 - 1);
  setOption('SO_MARK', fd, binding().setMark(fd, mark));
}

/**
 * `setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT)`: a bind to port 0 leaves the choice of the port to connect(2),
 * which can use one port for many destinations; otherwise every connection spends a port of its own.
 *
 * @throws `EBADF`, `ENOTSOCK`, `ERR_INVALID_FD_TYPE`, argument errors
 * Capability: none. Source: ip(7).
 */
export function setBindAddressNoPort(fd: number, on = true): void {
  checkFd(fd);
  checkBoolean('on', on);
  setOption('IP_BIND_ADDRESS_NO_PORT', fd, binding().setBindAddressNoPort(fd, on));
}
