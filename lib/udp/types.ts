// The public types of UDP sockets that know where their datagrams were going.
import type { EventEmitter } from 'node:events';
import type { Endpoint } from '../address.ts';
import type { SystemError } from '../errors.ts';
import type { Namespace } from '../namespace/namespace.ts';
import type { DatagramDestination } from './destination.ts';

export interface DatagramSocketOptions {
  /** A literal IP address. Default `'::'`: all addresses, of IPv4 too. */
  address?: string;

  /** Default 0: the kernel chooses one. */
  port?: number;

  /** Leave IPv4 to others. Default false. */
  ipv6Only?: boolean;

  /**
   * A bound UDP socket in place of `address`, `port`, `ipv6Only` and `namespace`: of a service manager, of the last start
   * of this program. It is this socket's from now on, and nobody else may read from it. Where this throws it stays yours.
   */
  fd?: number;

  /** Set IP_TRANSPARENT, for TPROXY rules. Needs CAP_NET_ADMIN or CAP_NET_RAW. Default false. */
  transparent?: boolean;

  /** SO_MARK of all that is sent, also from reply sockets. Needs CAP_NET_ADMIN or, from Linux 5.17, CAP_NET_RAW. */
  mark?: number;

  /** SO_RCVBUF in bytes; beyond net.core.rmem_max with CAP_NET_ADMIN. The kernel doubles it, for its overhead. */
  receiveBufferSize?: number;

  /** Bind in this network namespace, and answer from it. Default: in the calling thread's. */
  namespace?: Namespace;

  /** How many bytes of a datagram are kept; the rest of a longer one is cut off. Default 65535: nothing ever is. */
  maxSize?: number;

  /**
   * Set UDP_GRO: datagrams of one flow, and of one length but for the last, may come as one message, with that length as
   * its `segmentSize`. For relays of QUIC and the like: what costs something for each message does so once for up to 64
   * datagrams. No effect before Linux 5.0. Not together with `maxSize`. Default false.
   */
  gro?: boolean;

  /** The conntrack zones that the rules put intercepted datagrams into. Default `[0, 1, 2]`: those of this package's rules. */
  conntrackZones?: readonly number[];

  /** At most how many reply sockets there are at a time. Default 256. */
  maxReplySockets?: number;

  /** After how many milliseconds without use a reply socket is closed. Default 30000. */
  replySocketTimeout?: number;

  /** Aborting it is `close()`. */
  signal?: AbortSignal;
}

/** A datagram's way to this host, whatever its destination. */
export interface DatagramDelivery {
  /** Who sent it. NAT may have changed the port; answers are to go here all the same. */
  readonly source: Readonly<Endpoint>;

  /** The address of this host that the kernel delivered it to: after NAT. Undefined if the kernel did not say. */
  readonly local: Readonly<Endpoint> | undefined;

  /** How long it was when it was sent. */
  readonly size: number;

  /** With `gro`: `data` is made of datagrams of this length, the last of which may be shorter. */
  readonly segmentSize?: number;

  /** Is `size` more than was kept? */
  readonly truncated: boolean;
}

/**
 * What is known about a datagram. `kind` as for connections:
 * - `redirect`: NAT (REDIRECT, DNAT) rewrote the destination; conntrack remembers this one.
 * - `tproxy`: delivered here unmodified (TPROXY, sk_lookup, AnyIP).
 * - `ebpf`: a capture (`attachCapture`) led it here; its table remembers the destination.
 * - `direct`: nobody redirected it; the client sent it to this address.
 * - `unknown`: not established, for the reason in `cause`; never a guess.
 */
export type DatagramInfo = DatagramDelivery & DatagramDestination;

/** What a socket has seen so far. */
export interface DatagramStats {
  redirect: number;
  tproxy: number;
  ebpf: number;
  direct: number;
  unknown: number;

  /** How many of the above were cut off at `maxSize`. */
  truncated: number;

  /** How many the kernel threw away because they came faster than they were read (SO_RXQ_OVFL, SO_MEMINFO). */
  dropped: number;

  /** Errors of recvmmsg by their code, each of them survived. */
  errors: Record<string, number>;

  /** How many reply sockets are open. */
  replySockets: number;
}

/** An address and port to send to or from. */
export interface DatagramAddress {
  address: string;
  port: number;
}

/** Where a datagram is to go. */
export interface DatagramRoute {
  destination: DatagramAddress;
  /**
   * The address and port that it is to come from. With the sending socket's own port it leaves from that socket
   * (IP_PKTINFO, IPV6_PKTINFO), else from a transparent socket bound to it, which is kept for the next one; datagrams
   * that come in there are the sending socket's messages too. Default: this socket, and the address that the kernel
   * chooses.
   */
  source?: DatagramAddress | undefined;
  /** UDP_SEGMENT: send datagrams of so many bytes, and one of what is left. Default, and 0: one datagram. */
  segmentSize?: number | undefined;
}

/** The events of an {@link InterceptedDatagramSocket}. */
export interface DatagramSocketEvents {
  message: [data: Buffer, info: DatagramInfo];
  close: [];
}

/**
 * A UDP socket that knows where its datagrams were going; made by `createDatagramSocket()`.
 *
 * - `'message'` (data, info): one datagram. `data` shares its memory with the datagrams received beside it: copy what
 *   is to be kept for long.
 * - `'close'`
 */
export interface InterceptedDatagramSocket extends EventEmitter<DatagramSocketEvents>, AsyncDisposable {
  /** What it is bound to. Also after close(). */
  address(): Readonly<Endpoint>;

  /** The descriptor while it is open, which stays this socket's: to be passed on to the next start of the program. */
  readonly fd: number | undefined;

  /** A snapshot. Also after close(). */
  readonly stats: DatagramStats;

  /**
   * `sendmsg(2)`, from any address.
   *
   * @returns undefined once the kernel has taken it, else the reason why not: an address that a client made up must
   *   not be able to throw here. `EAGAIN`: the send buffer is full, `EPERM`: no right to that source (or a firewall's
   *   no), `EADDRINUSE`: another program's socket holds the source, `EBADF`: closed, … Of
   *   several datagrams (`segmentSize`) the first may have been taken all the same.
   * @throws argument errors
   * Capability: CAP_NET_ADMIN or CAP_NET_RAW for a source that is not this socket's.
   */
  send(data: string | NodeJS.ArrayBufferView, to: DatagramRoute): SystemError | undefined;

  /**
   * Answers a message, from the address that its client sent it to: a client that has connected its socket takes
   * answers from nowhere else.
   *
   * Under REDIRECT the answer leaves from this socket and conntrack puts the original address back; from a socket
   * bound to the original it would be a flow of its own, and NAT would change its port.
   *
   * @param segmentSize as in {@link DatagramRoute}
   * @returns as {@link InterceptedDatagramSocket.send}
   */
  reply(
    data: string | NodeJS.ArrayBufferView,
    info: DatagramInfo,
    segmentSize?: number,
  ): SystemError | undefined;

  /** Stops reading. What is in the hands of this process already (32 datagrams at most) is still emitted. */
  pause(): this;
  resume(): this;

  /** Keep the event loop alive, as it does from the beginning. */
  ref(): this;

  /** Do not keep the event loop alive. */
  unref(): this;

  /** Closes it and its reply sockets, at once; no `'message'` follows, `'close'` does. */
  close(): this;

  /** `close()` as a promise, also if it is closed already. */
  [Symbol.asyncDispose](): Promise<void>;
}
