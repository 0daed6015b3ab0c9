// Where a connection was going: what the kernel's answer means.
import { Socket, type Server } from 'node:net';
import { constants } from 'node:os';
import { type Endpoint, canonicalAddress, isWildcard } from '../address.ts';
import { binding } from '../binding.ts';
import { conntrackActive, conntrackPresent, conntrackSeen } from './tracking.ts';
import { TCP } from './conntrack-entry.ts';
import { invalidType } from '../arguments.ts';
import { systemError } from '../errors.ts';
import { unknownAlias } from './alias.ts';
import {
  addressText,
  type AddressRole,
  captureStatus,
  endpointAt,
  entryStatus,
  familyAt,
  familyNameAt,
  originalStatus,
  peerStatus,
  portAt,
  sameEndpoint,
  Role,
} from './kernel-answer.ts';
import { isOwnAddress } from './own-address.ts';
import { here, Place } from './place.ts';
import { acceptingServer, underlyingSocket, withFd } from '../node/socket-fd.ts';

const { EADDRINUSE, EBADF, ENOENT, ENOPROTOOPT, ENOTCONN, EOPNOTSUPP } = constants.errno;

/** A destination that is known, and how the connection came here. */
export interface KnownDst extends Endpoint {
  /**
   * - `redirect`: NAT (REDIRECT, DNAT) rewrote the destination; conntrack remembers this one.
   * - `tproxy`: delivered here unmodified (TPROXY, sk_lookup, AnyIP); the socket's local address is the destination.
   * - `ebpf`: a capture (`attachCapture`) led connect(2) here; its table remembers this one.
   * - `proxy`: a proxy in front, which the server trusts to say so, has named it (PROXY protocol).
   * - `direct`: nobody redirected it; the client dialled this address.
   */
  kind: 'redirect' | 'tproxy' | 'ebpf' | 'proxy' | 'direct';
}

/** No destination could be established: never a guess. `cause` is the system error that says why. */
export interface UnknownDst {
  kind: 'unknown';
  cause: NodeJS.ErrnoException;
}

/** Where an accepted connection was really going. */
export type OriginalDst = KnownDst | UnknownDst;

/** The address that a server is bound to, as `server.address()` gives it. */
export interface ListenerAddress {
  address: string;
  port: number;
}

/** Asked for only where the answer turns on it: a redirected connection spares the listener's getsockname(2). */
type BoundTo = () => ListenerAddress | undefined;

/**
 * The answer is kept in a property of the socket and not in a WeakMap, because http2 hands its users a Proxy of the
 * socket, which passes properties through and is another key. And not in `originalDst`, which is there for users to
 * read: whoever gets `Object.prototype.originalDst` set by another part of the program would choose the destination of
 * every connection. That the Proxy hides which properties are the socket's own rules out to ask for that.
 */
const decidedKey = Symbol('original-dst.decided');

interface Annotated {
  [decidedKey]?: OriginalDst;
  originalDst?: OriginalDst;
}

/** In one piece: an endpoint with a kind added to it would be two objects for each connection. */
function knownAt(role: AddressRole, kind: KnownDst['kind']): KnownDst {
  return { address: addressText(role), port: portAt(role), family: familyNameAt(role), kind };
}

function unknown(errno: number, syscall: string, option?: string): UnknownDst {
  const context = option === undefined ? { syscall } : { syscall, option };
  return { kind: 'unknown', cause: systemError(errno, context) };
}

/**
 * Can a client have dialled the accepted socket's local address and have reached this listener by that? A negative errno
 * where it cannot be found out.
 */
function dialable(boundTo: BoundTo | undefined, place: Place): boolean | number {
  const listener = boundTo?.();
  if (listener === undefined) return isOwnAddress(Role.local, place);
  if (portAt(Role.local) !== listener.port) return false;
  if (isWildcard(listener.address)) return isOwnAddress(Role.local, place);
  return canonicalAddress(listener.address) === endpointAt(Role.local).address;
}

/**
 * MPTCP sockets do not answer SO_ORIGINAL_DST; their first subflow is a TCP connection with the same addresses,
 * which conntrack can be asked about by netlink. 0 with the answer in the role `original`, or a negative errno.
 */
function originalOfMptcp({ where }: Place): number {
  return Math.min(0, binding().conntrackLookup(TCP, 0, Role.local, Role.peer, Role.original, where, false));
}

/** Is there no answer because no connection here has one? */
function neverTracked(errno: number, place: Place): boolean {
  if (errno === -ENOPROTOOPT) return !conntrackPresent();
  return conntrackActive(familyAt(Role.local), place) === false;
}

/** What it means that the kernel has no answer for a connection whose local address could be a plain listener's. */
function withoutAnswer(errno: number, place: Place, syscall: string, option: string): OriginalDst {
  // Without conntrack there is no NAT, so nobody can have redirected it. With conntrack at work every connection
  // has an entry, so this one's was lost, and the local address may be the proxy's own.
  if (neverTracked(errno, place)) return knownAt(Role.local, 'direct');
  return unknown(errno, syscall, option);
}

/** What it is if nobody has dialled the local address: delivered here as it was. Undefined if somebody may have. */
function notDialled(boundTo: BoundTo | undefined, place: Place): OriginalDst | undefined {
  const answer = dialable(boundTo, place);
  if (answer === true) return undefined;
  return answer === false ? knownAt(Role.local, 'tproxy') : unknown(answer, 'setns');
}

/**
 * Is the entry that has answered this connection's own? 0, or why that is not known. A client that has sent a segment
 * twice, as all do when the acknowledgement is late, looks as a stranger does who sends from the same addresses, until
 * conntrack is asked what the entry has seen. That takes CAP_NET_ADMIN, in the namespace of the socket.
 */
function doubtOf(mptcp: boolean, { where }: Place): number {
  const status = mptcp ? binding().checkMptcpEntry(where) : entryStatus();
  if (status !== -EADDRINUSE || binding().confirmEntry(where) !== 0) return status;
  if (!mptcp) return 0;
  // The first subflow may have ended meanwhile, which the MPTCP socket does not tell.
  const later = binding().checkMptcpEntry(where);
  return later === status ? 0 : later;
}

/** Conntrack has an entry for these addresses, which another connection may have made. */
function ofAnother(errno: number, mptcp: boolean): UnknownDst {
  if (mptcp) return unknown(errno, 'netlink', 'SOCK_DIAG_BY_FAMILY');
  if (errno === -ENOTCONN) return unknown(errno, 'getpeername');
  return unknown(errno, 'getsockopt', 'SO_ORIGINAL_DST');
}

/**
 * Decides where the connection behind an accepted socket's fd was going. In this order: what the table of an eBPF
 * capture says; what conntrack says, unless it says nothing new or speaks of the wrong end; a local address that the
 * listener cannot have been dialled at; else nobody redirected it. What conntrack says counts only while the entry is
 * sure to be this connection's: the addresses alone do not say so.
 */
export function recoverFromFd(fd: number, boundTo: BoundTo | undefined): OriginalDst {
  return recoverFromFacts(binding().readFacts(fd), boundTo, new Place(fd));
}

/** The same from what readFacts has answered and filled, of the socket that `place` is known by. */
export function recoverFromFacts(
  status: number,
  boundTo: BoundTo | undefined,
  place: Place = here(),
): OriginalDst {
  if (status !== 0) return unknown(status, 'getsockname');
  // First: an alias is an address that nothing else leads to, and nobody has asked conntrack about it.
  if (captureStatus() > 0) return knownAt(Role.captured, 'ebpf');
  if (captureStatus() < 0) return unknownAlias(captureStatus());
  const mptcp = originalStatus() === -EOPNOTSUPP;
  const answer = mptcp ? originalOfMptcp(place) : originalStatus();
  if (answer !== 0) {
    return (
      notDialled(boundTo, place) ??
      (mptcp
        ? withoutAnswer(answer, place, 'netlink', 'IPCTNL_MSG_CT_GET')
        : withoutAnswer(answer, place, 'getsockopt', 'SO_ORIGINAL_DST'))
    );
  }
  const entry = doubtOf(mptcp, place);
  conntrackSeen(familyAt(Role.local), place);
  if (sameEndpoint(Role.original, Role.local)) {
    const delivered = notDialled(boundTo, place);
    if (delivered) return delivered;
    if (entry !== 0) return ofAnother(entry, mptcp);
    return knownAt(Role.local, 'direct');
  }
  // Without the peer's address the next check cannot be made, and without it the answer may be the client itself.
  if (peerStatus() !== 0) return ofAnother(peerStatus(), false);
  if (sameEndpoint(Role.original, Role.peer)) {
    // Conntrack saw the proxy's packet first (the client's were notrack) and took the proxy for the client.
    return notDialled(boundTo, place) ?? unknown(-ENOENT, 'getsockopt', 'SO_ORIGINAL_DST');
  }
  if (entry !== 0) return ofAnother(entry, mptcp);
  return knownAt(Role.original, 'redirect');
}

/**
 * What a server is bound to; undefined while it does not listen, for a unix-domain path, and where getsockname(2)
 * fails: the program may have closed the descriptor that it gave to `listen({ fd })`.
 */
export function listenerAddress(server: Server | undefined): ListenerAddress | undefined {
  try {
    const address = server?.address();
    return typeof address === 'object' && address !== null ? address : undefined;
  } catch {
    return undefined;
  }
}

/** Keeps the decision for the life of the socket object: conntrack entries go away, the answer does not change. */
export function annotate(socket: Socket, decided: OriginalDst): void {
  // By assignment, which http2's Proxy of a socket passes on; a property defined on that Proxy would stay with it.
  (socket as Annotated)[decidedKey] = decided;
  (socket as Annotated).originalDst = decided;
}

/**
 * `getsockopt(fd, SOL_IP, SO_ORIGINAL_DST)`, `getsockname(fd)` and `getpeername(fd)`: where an accepted TCP
 * connection was really going, decided on the first call and kept on the socket.
 *
 * Call it before anything else happens to the socket, or let {@link intercept} do so: the entry may be gone later.
 *
 * @param socket a socket that a net.Server accepted
 * @returns the destination and how it came here; `unknown` with the cause where there is no sure answer. Never
 *   throws for what the network or the kernel does.
 * @throws `ERR_INVALID_ARG_TYPE`, `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`
 * Capability: none. Source: ip(7); net/netfilter/nf_conntrack_proto.c; Documentation/networking/tproxy.rst.
 */
export function recoverOriginalDst(socket: Socket): OriginalDst {
  if (!(socket instanceof Socket)) throw invalidType('socket', 'an instance of net.Socket', socket);
  const known = originalDst(socket);
  if (known !== undefined) return known;
  const listener = () => listenerAddress(acceptingServer(socket));
  const decided = withFd(socket, (fd) => recoverFromFd(fd, listener)) ?? unknown(-EBADF, 'getsockname');
  annotate(socket, decided);
  return decided;
}

/**
 * The destination that {@link intercept} or {@link recoverOriginalDst} found for this socket, also through TLS and
 * HTTP/2: `originalDst(request.socket)` works in every request handler. No system call.
 *
 * @returns undefined for a socket that nobody has asked about
 */
export function originalDst(socket: object): OriginalDst | undefined {
  for (let current: object | undefined = socket; current; current = underlyingSocket(current)) {
    const decided = (current as Annotated)[decidedKey];
    if (decided !== undefined) return decided;
  }
  return undefined;
}
