// createDatagramSocket(): datagrams with their true destination, and answers from there.
import { EventEmitter } from 'node:events';
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import { errors, publishError } from '../accept/channels.ts';
import type { Endpoint } from '../address.ts';
import { invalidType } from '../arguments.ts';
import { type DatagramDestination, DestinationFinder, isShared } from './destination.ts';
import { BATCH, DatagramPort, type PortOptions } from './datagram-port.ts';
import { systemError, type SystemError } from '../errors.ts';
import { closeOnAbort } from '../node/close-on-abort.ts';
import { datagrams } from './channel.ts';
import { bytesOf, checkDatagramAddress, checkSegmentSize, readDatagramOptions } from './options.ts';
import { ReplySockets } from './reply-sockets.ts';
import type {
  DatagramAddress,
  DatagramDelivery,
  DatagramInfo,
  DatagramRoute,
  DatagramSocketEvents,
  DatagramSocketOptions,
  DatagramStats,
  InterceptedDatagramSocket,
} from './types.ts';

const { EAGAIN, EBADF, EINVAL } = constants.errno;

/** How many batches are read before the event loop gets its turn: enough to share its cost, few enough to be fair. */
const BATCHES_A_TURN = 4;

/** A {@link DatagramInfo} that is being written. */
interface WrittenInfo extends Omit<DatagramDelivery, 'segmentSize'> {
  segmentSize?: number;
  kind: DatagramInfo['kind'];
  destination: DatagramInfo['destination'];
  cause?: NodeJS.ErrnoException;
}

/**
 * `bind(2)` with IP_RECVORIGDSTADDR and IPV6_RECVORIGDSTADDR, then `recvmmsg(2)`: a UDP socket whose messages come
 * with the destination that the client meant. Bound when this returns; literal addresses only.
 *
 * The event loop waits for it, or a thread where that loop is not Node's; reading happens here, batch after batch, and
 * only as fast as the handlers keep up: what does not fit into the kernel's buffer meanwhile is dropped there, and
 * counted in `stats.dropped`.
 *
 * @throws the system error of socket, setsockopt (`EPERM`) or bind (`EADDRINUSE`, …), argument errors,
 *   `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`
 * Capability: none to learn destinations under TPROXY; CAP_NET_ADMIN for `transparent`, for answers from foreign
 * addresses, and under REDIRECT, where only conntrack knows (netlink); without it those are `unknown`.
 * Source: ip(7), ipv6(7), recvmmsg(2); Documentation/networking/tproxy.rst.
 */
export function createDatagramSocket(options: DatagramSocketOptions = {}): InterceptedDatagramSocket {
  const { port, zones, maxReplies, replyTimeout, signal } = readDatagramOptions(options);
  const socket = new DatagramSocket(port, zones, maxReplies, replyTimeout);
  closeOnAbort(signal, socket);
  return socket;
}

/** The sockets, and what is known of each. */
export class DatagramSocket extends EventEmitter<DatagramSocketEvents> implements InterceptedDatagramSocket {
  readonly #options: PortOptions;
  readonly #zones: readonly number[];
  readonly #main: DatagramPort;
  readonly #replies: ReplySockets<DatagramPort>;
  readonly #finders = new Map<DatagramPort, DestinationFinder>();
  /** Ports to be read once resume() is called. */
  readonly #paused = new Set<DatagramPort>();
  /** Ports to be closed once they are empty. */
  readonly #retired = new Set<DatagramPort>();
  readonly #stats = { redirect: 0, tproxy: 0, ebpf: 0, direct: 0, unknown: 0, truncated: 0 };
  readonly #errors: Record<string, number> = {};
  #repliesDropped = 0;
  #isPaused = false;
  #referenced = true;

  constructor(options: PortOptions, zones: readonly number[], maxReplies: number, replyTimeout: number) {
    super();
    this.#options = options;
    this.#zones = zones;
    this.#replies = new ReplySockets(maxReplies, replyTimeout, (port) => this.#retire(port));
    this.#main = this.#open(options);
    this.#main.ref(true);
  }

  address(): Readonly<Endpoint> {
    return this.#main.address;
  }

  get fd(): number | undefined {
    return this.#main.fd;
  }

  get stats(): DatagramStats {
    let dropped = this.#repliesDropped;
    for (const port of this.#finders.keys()) dropped += port.drops();
    return { ...this.#stats, dropped, errors: { ...this.#errors }, replySockets: this.#replies.size };
  }

  send(data: string | NodeJS.ArrayBufferView, to: DatagramRoute): SystemError | undefined {
    const bytes = bytesOf(data);
    if (typeof to !== 'object' || to === null) throw invalidType('to', 'of type object', to);
    const destination = checkDatagramAddress('to.destination', to.destination);
    const segment = checkSegmentSize('to.segmentSize', to.segmentSize);
    if (to.source === undefined) return this.#main.send(bytes, destination, segment);
    return this.#sendFrom(bytes, destination, segment, checkDatagramAddress('to.source', to.source));
  }

  reply(
    data: string | NodeJS.ArrayBufferView,
    info: DatagramInfo,
    segmentSize?: number,
  ): SystemError | undefined {
    const bytes = bytesOf(data);
    if (typeof info !== 'object' || info === null) throw invalidType('info', 'of type object', info);
    checkDatagramAddress('info.source', info.source);
    const segment = checkSegmentSize('segmentSize', segmentSize);
    if (info.kind === 'ebpf') return this.#main.send(bytes, info.source, segment, info.local?.address, true);
    const source = info.kind === 'tproxy' ? info.destination : info.local;
    if (source === undefined || isShared(source.address)) return this.#main.send(bytes, info.source, segment);
    return this.#sendFrom(bytes, info.source, segment, source);
  }

  pause(): this {
    this.#isPaused = true;
    return this;
  }

  resume(): this {
    this.#isPaused = false;
    for (const port of this.#paused) this.#readSoon(port);
    this.#paused.clear();
    return this;
  }

  ref(): this {
    this.#referenced = true;
    this.#main.ref(true);
    return this;
  }

  unref(): this {
    this.#referenced = false;
    this.#main.ref(false);
    return this;
  }

  close(): this {
    if (!this.#main.isOpen) return this;
    this.#main.forget();
    this.#main.close();
    this.#replies.clear();
    for (const port of this.#retired) this.#shut(port);
    process.nextTick(() => this.emit('close'));
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#main.isOpen) return;
    await new Promise<void>((resolve) => this.close().once('close', resolve));
  }

  #open(options: PortOptions): DatagramPort {
    const port = new DatagramPort(options, (port) => this.#read(port));
    const finder = new DestinationFinder(port.address, this.#zones, options.reuseAddress, port, port.place);
    // Before the first datagram, where rules can lead to this port already. Others, which a program has by the
    // hundred to ask with, begin with their first answer, and TPROXY with the first datagram that it did not lead here.
    const isKnown = options.port !== 0 || options.fd !== undefined;
    if (!options.transparent && isKnown) finder.watch();
    this.#finders.set(port, finder);
    return port;
  }

  #sendFrom(
    bytes: Uint8Array,
    destination: DatagramAddress,
    segment: number,
    source: DatagramAddress,
  ): SystemError | undefined {
    if (!this.#main.isOpen) return systemError(-EBADF, { syscall: 'sendmsg' });
    // To bind(2) it would mean any port, and an answer from another port than the client's question went to.
    if (source.port === 0) return systemError(-EINVAL, { syscall: 'bind', ...source });
    if (source.port === this.#main.address.port)
      return this.#main.send(bytes, destination, segment, source.address);
    let port: DatagramPort;
    try {
      port = this.#replies.get(source.address, source.port, () => this.#openReply(source));
    } catch (error) {
      return error as SystemError;
    }
    return port.send(bytes, destination, segment);
  }

  #openReply({ address, port }: DatagramAddress): DatagramPort {
    // SO_REUSEADDR: the sockets of several processes can answer from one address.
    return this.#open({
      ...this.#options,
      // Of the socket, which is open: the namespace's own may have been closed by now.
      namespace: this.#main.place.where,
      fd: undefined,
      address,
      port,
      ipv6Only: true,
      transparent: true,
      reuseAddress: true,
    });
  }

  /** A client's datagram may have come in meanwhile: it is read before the socket is closed. */
  #retire(port: DatagramPort): void {
    this.#retired.add(port);
    // Not at once: this may be a handler's answer to a datagram of a batch that is still being delivered.
    this.#readSoon(port);
  }

  #shut(port: DatagramPort): void {
    port.close();
    this.#retired.delete(port);
    this.#finders.delete(port);
    this.#repliesDropped += port.drops();
  }

  #readSoon(port: DatagramPort): void {
    setImmediate(() => this.#read(port));
  }

  #read(port: DatagramPort): void {
    if (!port.isOpen) return;
    const finder = this.#finders.get(port)!;
    for (let batch = 0; batch < BATCHES_A_TURN; batch++) {
      if (this.#isPaused) {
        this.#paused.add(port);
        port.rest();
        return;
      }
      finder.beforeBatch();
      const count = port.receive();
      if (count < 0 && count !== -EAGAIN) this.#countError(count);
      this.#deliver(port, finder, count);
      if (!port.isOpen) return;
      if (count < BATCH) {
        port.delivered();
        if (this.#retired.has(port)) this.#shut(port);
        else port.arm();
        return;
      }
    }
    // More is there: no need of the thread to say so, unless the event loop may end meanwhile. (An immediate that
    // is unref'ed is no way out: it waits until something else wakes the loop.)
    if (this.#referenced && !port.repeats) this.#readSoon(port);
    else port.arm();
  }

  #deliver(port: DatagramPort, finder: DestinationFinder, count: number): void {
    finder.startBatch(count < BATCH);
    for (let index = 0; index < count && this.#main.isOpen; index++) {
      const data = port.data(index);
      const source = port.source(index);
      const local = port.local(index);
      const size = port.size(index);
      const truncated = size > data.length;
      const decided = finder.recall(source, local) ?? this.#decide(port, finder, index);
      const segmentSize = this.#options.gro ? port.segment(index) || size : 0;
      this.#stats[decided.kind] += segmentSize > 0 ? Math.ceil(size / segmentSize) : 1;
      if (truncated) this.#stats.truncated++;
      const { kind, destination } = decided;
      // Not by `...decided`, which takes V8 as long as all else in here.
      const written: WrittenInfo = { source, local, size, truncated, kind, destination };
      if (this.#options.gro) written.segmentSize = segmentSize;
      if (decided.kind === 'unknown') {
        written.cause = decided.cause;
        publishError(decided.cause, { socket: this });
      }
      const info = written as DatagramInfo;
      if (datagrams.hasSubscribers) datagrams.publish({ socket: this, data, info });
      try {
        this.emit('message', data, info);
      } catch (error) {
        // The handler's own failure is the program's to see, and no reason for the datagrams behind to be lost.
        process.nextTick(() => {
          throw error;
        });
      }
    }
  }

  #decide(port: DatagramPort, finder: DestinationFinder, index: number): DatagramDestination {
    port.toRoles(index);
    return finder.decide(port.source(index), port.local(index)!);
  }

  #countError(errno: number): void {
    const code = getSystemErrorName(errno);
    this.#errors[code] = (this.#errors[code] ?? 0) + 1;
    // Not by publishError(): an error would be made for each, with its stack, that nobody may have asked for.
    if (errors.hasSubscribers)
      errors.publish({ socket: this, error: systemError(errno, { syscall: 'recvmmsg' }) });
  }
}
