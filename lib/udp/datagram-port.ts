// One UDP socket of the addon, and the memory that it fills.
import { constants } from 'node:os';
import type { Endpoint } from '../address.ts';
import { binding, type NativeDatagramHub } from '../binding.ts';
import { EndpointCache } from './endpoint-cache.ts';
import { systemError, type SystemError, type SystemErrorContext } from '../errors.ts';
import { foreignRuntimeName } from '../node/runtime.ts';
import { setAddress, Role } from '../recover/kernel-answer.ts';
import { Place } from '../recover/place.ts';

/** Where the fields of struct Datagram (src/datagram/datagram.h) are, in 32-bit words. */
const RECORD_WORDS = 17;
const DESTINATION = 6;
const SIZE = 12;
const KEPT = 13;
const OFFSET = 14;
const DROPS = 15;
const SEGMENT = 16;

/** As many datagrams as one receive can bring (kBatch of src/datagram/datagram.h). */
export const BATCH = 32;

/** Which of the records hold what watch() is about. */
const DELETED = BATCH + 1;

/** The largest datagram that can come in (kMaxDatagram of src/datagram/datagram.h). */
export const MAX_DATAGRAM = 65535;

/** What a socket can fail at, in the order of enum OpenStep (src/datagram/datagram.h). */
const STEPS: readonly (SystemErrorContext | undefined)[] = [
  { syscall: 'socket' },
  { syscall: 'setsockopt' },
  { syscall: 'setsockopt', option: 'IP_TRANSPARENT' },
  { syscall: 'setsockopt', option: 'SO_MARK' },
  undefined, // bind(2): see bindContext()
  {
    syscall: 'getsockopt',
    hint: '`fd` is to be a UDP socket that is bound, and that nobody else reads from',
  },
];

interface Hub {
  native: NativeDatagramHub;
  records: Int32Array;
  /** The addresses in records. Two caches, because each is quickest at what it was asked last. */
  sources: EndpointCache;
  destinations: EndpointCache;
  /** Who reads which slot. */
  readers: ((() => void) | undefined)[];
  /** How many ports want the event loop to stay. */
  referenced: number;
}

let shared: Hub | undefined;

/** One for each thread: module state is a worker's own. */
function hub(): Hub {
  if (shared !== undefined) return shared;
  const readers: Hub['readers'] = [];
  // A slot that was closed while its message was on the way, and taken again: a read in vain does no harm.
  const native = new (binding().DatagramHub)((slot) => readers[slot]?.(), foreignRuntimeName() === undefined);
  if (native.status !== 0) throw systemError(native.status, { syscall: 'epoll_create' });
  return (shared = {
    native,
    records: new Int32Array(native.records),
    sources: new EndpointCache(native.records),
    destinations: new EndpointCache(native.records),
    readers,
    referenced: 0,
  });
}

export interface PortOptions {
  address: string;
  port: number;
  transparent: boolean;
  ipv6Only: boolean;
  /** SO_REUSEADDR */
  reuseAddress: boolean;
  /** UDP_GRO, where the kernel has it */
  gro: boolean;
  /** 0: none */
  mark: number;
  /** SO_RCVBUF; 0: the system's default */
  receiveBufferSize: number;
  /** How many bytes of a datagram are kept. */
  maxSize: number;
  /** A descriptor of the network namespace, or of a socket of it; -1: this thread's. */
  namespace: number;
  /** A bound socket in place of a new one, this port's from now on. */
  fd?: number | undefined;
}

const ADDRESS_TAKEN =
  'a socket without SO_REUSEADDR holds that port, on this address or on all of them (a resolver of this host, say): ' +
  'answers cannot leave from there until it is bound to its own addresses only';

function bindContext(errno: number, { address, port, reuseAddress }: PortOptions): SystemErrorContext {
  const taken = reuseAddress && errno === -constants.errno.EADDRINUSE;
  return { syscall: 'bind', address, port, ...(taken ? { hint: ADDRESS_TAKEN } : {}) };
}

/** Those that are open, of this thread. */
const openPorts = new Set<DatagramPort>();

/** A bound UDP socket that tells the destination of each datagram. */
export class DatagramPort {
  /** What it is bound to. */
  readonly address: Readonly<Endpoint>;
  readonly #hub: Hub;
  readonly #slot: number;
  #payload: Buffer = Buffer.alloc(0);
  #open = true;
  #referenced = false;
  #resting = false;
  #drops = 0;
  #filtered: 'no' | 'soon' | 'yes' = 'no';

  /**
   * @param onReadable called when there may be something to receive; if not `repeats`, then not again before arm()
   * @throws the system error of socket, setsockopt or bind
   */
  constructor(options: PortOptions, onReadable: (port: DatagramPort) => void) {
    this.#hub = hub();
    const { native, records, sources, readers } = this.#hub;
    const slot = native.open(
      options.address,
      options.port,
      options.transparent,
      options.ipv6Only,
      options.reuseAddress,
      options.mark,
      options.receiveBufferSize,
      options.maxSize,
      options.namespace,
      options.fd ?? -1,
      options.gro,
    );
    const opened = BATCH * RECORD_WORDS;
    if (slot < 0) {
      throw systemError(slot, STEPS[records[opened + SIZE]!] ?? bindContext(slot, options));
    }
    this.#slot = slot;
    this.address = sources.get(opened)!;
    readers[slot] = () => onReadable(this);
    openPorts.add(this);
    this.filter();
  }

  /** Nobody but programs that an eBPF capture has led here can have sent what is read now, if it came to an alias. */
  get isFiltered(): boolean {
    return this.#filtered === 'yes';
  }

  /** Drops what others send to aliases, if there is a capture that leads to this port, and nothing if there is none. */
  filter(): void {
    const program = binding().captureFilter(this.address.port);
    const was = this.#filtered;
    if (program < 0 ? was === 'no' : this.place.isElsewhere) return;
    const status = binding().filterSocket(this.fd!, program);
    this.#filtered = program < 0 || status < 0 ? 'no' : status > 0 || was === 'yes' ? 'yes' : 'soon';
  }

  /** To be called when what had come has been delivered. */
  delivered(): void {
    if (this.#filtered === 'soon') this.filter();
  }

  /** The socket's network namespace. */
  get place(): Place {
    return new Place(this.#hub.native.fd(this.#slot));
  }

  get isOpen(): boolean {
    return this.#open;
  }

  /** recvmmsg(2): how many datagrams there are to be read below, or a negative errno. */
  receive(): number {
    const { native, records } = this.#hub;
    const count = native.receive(this.#slot);
    if (count <= 0) return count;
    const last = (count - 1) * RECORD_WORDS;
    this.#drops = records[last + DROPS]! >>> 0 || this.#drops;
    // One memory for the batch: a Buffer of its own for each datagram takes three times as long.
    this.#payload = Buffer.allocUnsafe(records[last + OFFSET]! + records[last + KEPT]!);
    native.copy(this.#payload);
    return count;
  }

  /** The datagram of that number in the last receive: its bytes, or as many of them as were kept. */
  data(index: number): Buffer {
    const { records } = this.#hub;
    const record = index * RECORD_WORDS;
    const offset = records[record + OFFSET]!;
    return this.#payload.subarray(offset, offset + records[record + KEPT]!);
  }

  /** How long it was when it was sent. */
  size(index: number): number {
    return this.#hub.records[index * RECORD_WORDS + SIZE]!;
  }

  /** How long each datagram is in what came together, the last perhaps less; 0: it came alone. */
  segment(index: number): number {
    return this.#hub.records[index * RECORD_WORDS + SEGMENT]!;
  }

  source(index: number): Readonly<Endpoint> {
    return this.#hub.sources.get(index * RECORD_WORDS)!;
  }

  /** IP_ORIGDSTADDR or IPV6_ORIGDSTADDR: what it was delivered to. Undefined if the kernel did not say. */
  local(index: number): Readonly<Endpoint> | undefined {
    return this.#hub.destinations.get(index * RECORD_WORDS + DESTINATION);
  }

  /** Is it certain that there is no conntrack entry at all where the socket is? */
  untracked(family: 4 | 6): boolean {
    return this.#hub.native.untracked(this.#slot, family);
  }

  /** From now on {@link deletions} tells. False where the kernel does not. */
  watch(): boolean {
    return this.#hub.native.watch(this.#slot, this.address.port) === 0;
  }

  /**
   * Calls `each` for every conntrack entry to this port that was deleted before its time since the last call, with the
   * addresses of the datagrams that came through it. False: some were missed.
   */
  deletions(each: (source: Endpoint, local: Endpoint) => void): boolean {
    const { native, sources, destinations } = this.#hub;
    let complete = true;
    for (;;) {
      const count = native.deletions(this.#slot);
      for (let index = 0; index < count; index++) {
        const record = (DELETED + index) * RECORD_WORDS;
        each(sources.get(record)!, destinations.get(record + DESTINATION)!);
      }
      /* c8 ignore next -- more deletions at once than the socket's buffer has room for */
      if (count === -constants.errno.ENOBUFS) complete = false;
      else if (count < BATCH) return complete;
    }
  }

  /** Puts that datagram's addresses where the addon looks for them: into the roles `peer` and `local`. */
  toRoles(index: number): void {
    const { records } = this.#hub;
    setAddress(Role.peer, records, index * RECORD_WORDS);
    setAddress(Role.local, records, index * RECORD_WORDS + DESTINATION);
  }

  /** Is onReadable called at each turn of the event loop for as long as there is something to receive? */
  get repeats(): boolean {
    return this.#hub.native.repeats;
  }

  /** Asks for one more call of onReadable, if it does not come by itself. */
  arm(): void {
    if (this.repeats && !this.#resting) return;
    this.#resting = false;
    this.#hub.native.arm(this.#slot);
  }

  /** Asks for no more calls of onReadable, until arm(). */
  rest(): void {
    this.#resting = true;
    this.#hub.native.rest(this.#slot);
  }

  /** sendmsg(2), as datagrams of `segmentSize` bytes if that is not 0, from `source` if given, which may be an eBPF capture's `alias`, else from the address that the kernel chooses. */
  send(
    data: Uint8Array,
    to: { address: string; port: number },
    segmentSize: number,
    source?: string,
    alias = false,
  ): SystemError | undefined {
    const { address, port } = to;
    const status = this.#hub.native.send(this.#slot, data, address, port, source, alias, segmentSize);
    return status === 0 ? undefined : systemError(status, { syscall: 'sendmsg', address, port });
  }

  /** The descriptor; undefined when it is closed. */
  get fd(): number | undefined {
    return this.#open ? this.#hub.native.fd(this.#slot) : undefined;
  }

  /** How many datagrams the kernel has dropped for want of room. */
  drops(): number {
    if (!this.#open) return this.#drops;
    // The same counter twice: SO_MEMINFO's, which is up to date, or, on a kernel without (negative), what
    // SO_RXQ_OVFL said beside the last datagram.
    return Math.max(this.#hub.native.drops(this.#slot), this.#drops);
  }

  /** Does this port keep the event loop alive? */
  ref(on: boolean): void {
    if (this.#referenced === on || !this.#open) return;
    this.#referenced = on;
    this.#hub.referenced += on ? 1 : -1;
    this.#hub.native.ref(this.#hub.referenced > 0);
  }

  /** Gives up what keeps a namespace alive that is not this thread's. */
  forget(): void {
    const { place } = this;
    if (place.isElsewhere) binding().conntrackForget(place.where);
  }

  /** Once. */
  close(): void {
    openPorts.delete(this);
    this.ref(false);
    this.#drops = this.drops();
    this.#open = false;
    this.#hub.readers[this.#slot] = undefined;
    this.#hub.native.close(this.#slot);
  }
}

/** To be called when there is a capture more, or less, that leads to a port. */
export function filterPorts(port: number): void {
  for (const each of openPorts) if (each.address.port === port) each.filter();
}
