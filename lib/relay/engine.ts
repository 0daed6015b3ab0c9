// The relays that the addon's threads run, and the memory that they share with TypeScript.
import { dialledAddress, type Endpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { dialError, type DialEnds } from '../dial/dial-error.ts';
import { checkInteger } from '../arguments.ts';
import { type CodedError, systemError, type SystemError } from '../errors.ts';
import type { Path } from '../policy/own-dials.ts';
import { program } from '../policy/program.ts';
import type { Dialled } from './destination.ts';
import { NativeMover, type OnClose, type RelayEnds } from './native-mover.ts';
import type { RelayOutcome, RelaySide } from './outcome.ts';
import type { Route } from './route.ts';
import type { RelayLimits } from './timeouts.ts';

/** Layout of struct RelaySlot (src/relay/relay.h): two doubles; reason, side and step of the dial in a byte each; errno; two floats. */
const SLOT_BYTES = 32;
const SLOT_DOUBLES = 4;
const REASON_SIDE_STEP = 4;
const ERRNO = 5;
const CONNECT_MS = 6;
const DURATION_MS = 7;
const SLOT_INTS = 8;
/** By the slot's number; the third stands for neither. */
const SIDES: readonly { side?: RelaySide }[] = [{ side: 'client' }, { side: 'upstream' }, {}];

interface Slab {
  doubles: Float64Array;
  ints: Int32Array;
  floats: Float32Array;
}

/** Bytes that Node has read from a socket already, to be sent ahead of what is still in the kernel. */
export type Ahead = Uint8Array | undefined;

let threads = 1;
let started: Engine | undefined;

/**
 * `pthread_create(3)`: over how many threads new relays are spread; 1 until set. One is enough for several GiB/s; a
 * program with many busy streams and idle processors gains from more. Threads start when they are first needed;
 * every worker thread of Node's has its own.
 *
 * @param count 1 to 64
 * @throws `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`
 */
export function setRelayThreads(count: number): void {
  checkInteger('count', count, 1, 64);
  threads = count;
}

/** The relays of this environment: which slot of the shared memory is whose, and which thread has how many. */
class Engine {
  readonly #native = binding();
  readonly #closed: Uint32Array;
  readonly #slabs: Slab[] = [];
  readonly #open: (NativeMover | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #load: number[] = [];
  /** What is to happen when an undecided connection is gone, by its token. */
  readonly #gone: ((() => void) | undefined)[] = [];
  #slotsPerSlab = 0;
  #alive = 0;

  constructor() {
    const batch = this.#native.relayStart(
      (count) => this.#onClosed(count),
      (token) => this.#gone[token]?.(),
    );
    /* c8 ignore next -- no memory for an event handle */
    if (typeof batch === 'number') throw systemError(batch, { syscall: 'relay' });
    this.#closed = new Uint32Array(batch);
  }

  /** Returns the mover, or the negative errno that prevented it. The fds are duplicated and stay the caller's. */
  add(
    fds: { client: number; upstream: number },
    ahead: { toUpstream: Ahead; toClient: Ahead },
    limits: RelayLimits,
    onClose: OnClose,
  ): NativeMover | number {
    return this.#begin({}, onClose, (id, thread) =>
      this.#native.relayAdd(
        id,
        fds.client,
        fds.upstream,
        limits.words,
        ahead.toUpstream,
        ahead.toClient,
        thread,
      ),
    );
  }

  /** The same with an upstream that is dialled on behalf of a client that has come through `path`. */
  connect(
    client: number,
    ahead: Ahead,
    to: Dialled,
    path: Path,
    limits: RelayLimits,
    onClose: OnClose,
  ): NativeMover | SystemError {
    const { source, portFallback = false, transparent = false, freebind = false } = to.how;
    const { mark = null, interface: device = null, namespace } = to.how;
    const destination = { address: dialledAddress(to.address), port: to.port };
    const ends: DialEnds = source === undefined ? { destination } : { destination, source };
    let slot = 0;
    const begun = this.#begin(ends, onClose, (id, thread) => {
      slot = id;
      return this.#native.relayConnect(
        id,
        client,
        destination.address,
        destination.port,
        limits.words,
        ahead,
        thread,
        program(),
        path,
        source?.address ?? null,
        source?.port ?? 0,
        portFallback,
        transparent,
        freebind,
        mark,
        device,
        namespace?.fd ?? -1,
      );
    });
    return typeof begun === 'number'
      ? dialError(begun, (this.#int(slot, REASON_SIDE_STEP) >> 16) & 0xff, ends)
      : begun;
  }

  /** The same for a connection that a relay thread has accepted: the thread dials `destination` and relays. */
  dial(token: number, ends: DialEnds, onClose: OnClose, stays?: number): NativeMover | number {
    const { address, port } = ends.destination!;
    const dial = (id: number, thread: number) =>
      this.#native.relayDial(id, token, address, port, thread, undefined);
    return this.#begin(ends, onClose, dial, stays);
  }

  /** The same another way than straight to a destination. */
  dialRoute(
    token: number,
    route: Route,
    source: Endpoint,
    onClose: OnClose,
    stays?: number,
  ): NativeMover | number {
    const dial = (id: number, thread: number) =>
      this.#native.relayDial(id, token, null, 0, thread, route.native);
    return this.#begin({ source, route }, onClose, dial, stays);
  }

  #begin(
    ends: RelayEnds,
    onClose: OnClose,
    give: (id: number, thread: number) => number,
    thread = this.#leastLoaded(),
  ): NativeMover | number {
    const id = this.#takeSlot();
    /* c8 ignore next -- more relays than a process can have descriptors for */
    if (id < 0) return id;
    const status = give(id, thread);
    if (status !== 0) {
      this.#free.push(id);
      return status;
    }
    const mover = new NativeMover(this, id, thread, ends, onClose);
    this.#open[id] = mover;
    this.#load[thread] = (this.#load[thread] ?? 0) + 1;
    this.countAlive(1);
    return mover;
  }

  destroy(id: number, thread: number): void {
    this.#native.relayDestroy(id, thread);
  }

  /** Calls `onGone` when the undecided connection is reset or broken. */
  watch(token: number, onGone: () => void): void {
    this.#gone[token] = onGone;
    this.#native.relayWatch(token);
  }

  unwatch(token: number): void {
    // Most were decided about at once, and not watched.
    if (token < this.#gone.length) this.#gone[token] = undefined;
  }

  /** Counts what keeps the event loop alive: relays, listening servers, connections to be decided about. */
  countAlive(change: 1 | -1): void {
    const before = this.#alive;
    this.#alive += change;
    if ((before === 0) !== (this.#alive === 0)) this.#native.relayRef(this.#alive > 0);
  }

  /** The live counter of one direction. */
  bytes(id: number, direction: 0 | 1): number {
    const slab = this.#slabs[Math.floor(id / this.#slotsPerSlab)]!;
    return slab.doubles[(id % this.#slotsPerSlab) * SLOT_DOUBLES + direction]!;
  }

  /** Of a relay that has closed; below 0: it never connected, or did not dial. */
  connectMs(id: number): number {
    return this.#float(id, CONNECT_MS);
  }

  durationMs(id: number): number {
    return this.#float(id, DURATION_MS);
  }

  #float(id: number, at: typeof CONNECT_MS | typeof DURATION_MS): number {
    const slab = this.#slabs[Math.floor(id / this.#slotsPerSlab)]!;
    return slab.floats[(id % this.#slotsPerSlab) * SLOT_INTS + at]!;
  }

  #int(id: number, at: typeof REASON_SIDE_STEP | typeof ERRNO): number {
    const slab = this.#slabs[Math.floor(id / this.#slotsPerSlab)]!;
    return slab.ints[(id % this.#slotsPerSlab) * SLOT_INTS + at]!;
  }

  #takeSlot(): number {
    if (this.#free.length === 0) {
      const memory = this.#native.relaySlab();
      /* c8 ignore next */
      if (typeof memory === 'number') return memory;
      const first = this.#slabs.length * this.#slotsPerSlab;
      this.#slotsPerSlab = memory.byteLength / SLOT_BYTES;
      this.#slabs.push({
        doubles: new Float64Array(memory),
        ints: new Int32Array(memory),
        floats: new Float32Array(memory),
      });
      for (let id = first + this.#slotsPerSlab - 1; id >= first; id--) this.#free.push(id);
    }
    return this.#free.pop()!;
  }

  #leastLoaded(): number {
    let best = 0;
    for (let thread = 1; thread < threads; thread++) {
      if ((this.#load[thread] ?? 0) < (this.#load[best] ?? 0)) best = thread;
    }
    return best;
  }

  #error(id: number, ends: RelayEnds, errno: number, step: number): SystemError | CodedError {
    const failures = ends.route ? this.#native.relayHopFailures(id) : [];
    // Of a relay that has come to its upstream, or that has no memory, none has ended it.
    if (failures.length === 0) return dialError(errno, step, ends);
    return ends.route!.error(failures, ends.source as Endpoint);
  }

  #outcome(id: number, ends: RelayEnds): RelayOutcome {
    const word = this.#int(id, REASON_SIDE_STEP);
    const side = SIDES[(word >> 8) & 0xff]!;
    switch (word & 0xff) {
      case 1:
        return { reason: 'end' };
      case 2:
        return { reason: 'reset', side: side.side! };
      case 3:
        return { reason: 'idle' };
      case 4:
        return { reason: 'aborted' };
      default:
        return {
          reason: 'error',
          ...side,
          error: this.#error(id, ends, this.#int(id, ERRNO), (word >> 16) & 0xff),
        };
    }
  }

  #onClosed(count: number): void {
    for (let at = 0; at < count; at++) {
      const id = this.#closed[at]!;
      const mover = this.#open[id]!;
      this.#open[id] = undefined;
      this.#load[mover.thread]!--;
      mover.finish(this.#outcome(id, mover.ends));
      this.#free.push(id);
    }
  }
}

export function engine(): Engine {
  return (started ??= new Engine());
}
