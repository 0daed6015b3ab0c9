// relay(): joins two sockets.
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { binding } from '../binding.ts';
import { checkSignal, invalidType, outOfRange } from '../arguments.ts';
import { codedError, systemError, type SystemError } from '../errors.ts';
import { relays } from './channel.ts';
import { engine } from './engine.ts';
import {
  abandon,
  foreignRuntime,
  isQuiet,
  refusal,
  stopReaders,
  takeBytes,
  waitUntilQuiet,
} from './handover.ts';
import { type Relay, RelayObject } from './relay-object.ts';
import type { Mover, RelayOutcome, RelaySide } from './outcome.ts';
import { PipeMover } from './stream-mover.ts';
import { readTimeouts, type RelayLimits, type RelayTimeouts } from './timeouts.ts';
import { keepCounted, socketFd } from '../node/socket-fd.ts';

export interface RelayOptions extends RelayTimeouts {
  /** Aborting it is `destroy()`. */
  signal?: AbortSignal;
  /**
   * Who moves the bytes.
   * - `native` (default): a thread of the addon, with splice(2); an error where that is not possible.
   * - `pipe`: Node's streams.
   * - `any`: native where possible, else streams.
   */
  engine?: 'native' | 'pipe' | 'any';
}

const { ETIMEDOUT } = constants.errno;
const SIDES = ['client', 'upstream'] as const;
const taken = new WeakSet<Socket>();

/** A relay between two sockets of Node's. */
class SocketRelay extends RelayObject {
  #sockets: Record<RelaySide, Socket> | undefined;
  readonly #limits: RelayLimits;
  readonly #engine: 'native' | 'pipe' | 'any';
  readonly #signal: AbortSignal | undefined;
  /** Ends the waiting for the sockets to be ready. */
  #stopWaiting: (() => void) | undefined;
  #waitTimer: NodeJS.Timeout | undefined;
  #waitsFor: RelaySide | undefined;
  #onAbort: (() => void) | undefined;
  /** Takes the connections off the counts of the servers that accepted them. */
  #uncount: (() => void)[] = [];

  constructor(
    sockets: Record<RelaySide, Socket>,
    limits: RelayLimits,
    which: 'native' | 'pipe' | 'any',
    signal?: AbortSignal,
  ) {
    super();
    this.#sockets = sockets;
    this.#limits = limits;
    this.#engine = which;
    this.#signal = signal;
    for (const side of SIDES) {
      taken.add(sockets[side]);
      stopReaders(sockets[side]);
    }
    // Ahead of everything that takes the sockets away.
    if (relays.hasSubscribers) relays.publish({ relay: this, sockets });
    if (this.outcome) return;
    if (signal?.aborted) {
      this.destroy();
      return;
    }
    if (signal) {
      this.#onAbort = () => void this.destroy();
      signal.addEventListener('abort', this.#onAbort);
    }
    this.#proceed();
  }

  override destroy(): this {
    if (this.#sockets) this.#giveUp({ reason: 'aborted' }, (socket) => socket.destroy());
    return super.destroy();
  }

  override finish(outcome: RelayOutcome): void {
    if (this.#onAbort) this.#signal?.removeEventListener('abort', this.#onAbort);
    for (const uncount of this.#uncount) uncount();
    super.finish(outcome);
  }

  /** Hands the sockets over as soon as both are ready. */
  #proceed(): void {
    this.#stopWaiting?.();
    this.#stopWaiting = undefined;
    const sockets = this.#sockets!;
    // A failed write has taken the error that the kernel had for the socket, before Node destroys it a tick later:
    // whoever read from it now would be told of an orderly end.
    const lost = SIDES.find((side) => sockets[side].destroyed || sockets[side].errored !== null);
    if (lost) {
      this.#onLost(lost, sockets[lost].errored as SystemError | null);
      return;
    }
    const waitFor = SIDES.map((side) => sockets[side]).filter((socket) => !isQuiet(socket));
    if (waitFor.length === 0) {
      this.#handOver(sockets);
      return;
    }
    this.#setWaitTimer(SIDES.find((side) => sockets[side].connecting));
    const stops = SIDES.map((side) => waitUntilQuiet(sockets[side], () => this.#proceed()));
    this.#stopWaiting = () => stops.forEach((stop) => stop());
  }

  /** Connecting has a time of its own; that a socket takes what was written to it is activity like any other. */
  #setWaitTimer(connecting: RelaySide | undefined): void {
    /* c8 ignore next -- two events of the sockets before one of them has connected */
    if (this.#waitTimer && this.#waitsFor === connecting) return;
    clearTimeout(this.#waitTimer);
    this.#waitsFor = connecting;
    const { connect, idle } = this.#limits;
    const limit = connecting ? connect : idle;
    if (limit === 0) return;
    this.#waitTimer = setTimeout(() => this.#onWaited(connecting), limit);
  }

  #onWaited(connecting: RelaySide | undefined): void {
    const outcome: RelayOutcome = connecting
      ? { reason: 'error', side: connecting, error: systemError(-ETIMEDOUT, { syscall: 'connect' }) }
      : { reason: 'idle' };
    this.#giveUp(outcome, abandon);
  }

  #onLost(side: RelaySide, error: SystemError | null): void {
    const outcome: RelayOutcome =
      error === null
        ? { reason: 'aborted', side }
        : error.code === 'ECONNRESET' || error.code === 'EPIPE'
          ? { reason: 'reset', side }
          : { reason: 'error', side, error };
    this.#giveUp(outcome, abandon);
  }

  #handOver(sockets: Record<RelaySide, Socket>): void {
    if (this.#engine === 'pipe') {
      this.#startPipe(sockets);
      return;
    }
    for (const side of SIDES) {
      const error = foreignRuntime() ?? refusal(side, sockets[side]);
      if (error === undefined) continue;
      if (this.#engine === 'any') this.#startPipe(sockets);
      else this.#giveUp({ reason: 'error', side, error }, abandon);
      return;
    }
    const { client, upstream } = sockets;
    const ahead = { toUpstream: takeBytes(client), toClient: takeBytes(upstream) };
    const fds = { client: socketFd(client)!, upstream: socketFd(upstream)! };
    const mover = engine().add(fds, ahead, this.#limits, (outcome) => this.finish(outcome));
    if (typeof mover === 'number') {
      if (this.#engine === 'any') {
        if (ahead.toUpstream) client.unshift(ahead.toUpstream);
        if (ahead.toClient) upstream.unshift(ahead.toClient);
        this.#startPipe(sockets);
      } else {
        this.#giveUp({ reason: 'error', error: systemError(mover, { syscall: 'relay' }) }, abandon);
      }
      return;
    }
    this.start(mover);
    this.#uncount = SIDES.map((side) => keepCounted(sockets[side]));
    // The thread works with duplicates: this closes Node's descriptors and leaves the connections alone.
    client.destroy();
    upstream.destroy();
  }

  #startPipe(sockets: Record<RelaySide, Socket>): void {
    this.start(new PipeMover(sockets, this.#limits, (outcome) => this.finish(outcome)));
  }

  override start(mover: Mover): void {
    this.#sockets = undefined;
    clearTimeout(this.#waitTimer);
    super.start(mover);
  }

  /** Ends a relay that has not got as far as moving bytes. */
  #giveUp(outcome: RelayOutcome, close: (socket: Socket) => void): void {
    this.#stopWaiting?.();
    clearTimeout(this.#waitTimer);
    const sockets = this.#sockets!;
    this.#sockets = undefined;
    for (const side of SIDES) {
      // An 'error' that is on its way was the relay's.
      sockets[side].on('error', () => {});
      close(sockets[side]);
    }
    this.finish(outcome);
  }
}

/**
 * `splice(2)` from each socket to the other in a thread of the addon, until both have ended: joins an accepted
 * connection with the one that was dialled for it, and takes the bytes out of JavaScript's hands.
 *
 * The sockets are the relay's from now on: what they have read or were given back by `unshift()` is sent first, what
 * was written to them is finished first, an upstream that is still connecting is waited for; `'data'` and
 * `'readable'` listeners are removed, and the socket objects close as soon as the thread has the connections.
 * The server that accepted one of them counts it until the relay has ended: `maxConnections`, `server.close()`.
 * FIN is passed on as FIN, RST as RST, an urgent byte (MSG_OOB) as urgent. Both connections get TCP_NODELAY.
 *
 * @returns a {@link Relay}: live byte counters, `destroy()`, and `'close'` with a {@link RelayOutcome}. What the
 *   network does, also to a socket that is gone already, is an outcome and never an exception.
 * @throws `ERR_RELAY_TLS`, `ERR_RELAY_NO_FD`, `ERR_RELAY_DECODED`, `ERR_UNSUPPORTED_RUNTIME` (unless `engine` is
 *   `'any'` or `'pipe'`), `ERR_RELAY_BUSY`, argument errors, `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`
 * Capability: none. Costs two descriptors for each relay, and two for each pipe while bytes are in flight (128 pipes
 * a thread; without one the bytes are copied). Source: splice(2), epoll(7), tcp(7).
 */
export function relay(client: Socket, upstream: Socket, options: RelayOptions = {}): Relay {
  const sockets = { client, upstream };
  for (const side of SIDES) {
    if (!(sockets[side] instanceof Socket))
      throw invalidType(side, 'an instance of net.Socket', sockets[side]);
  }
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  const { signal, engine: which = 'native' } = options;
  const limits = readTimeouts(options);
  checkSignal('options.signal', signal);
  if (which !== 'native' && which !== 'pipe' && which !== 'any') {
    throw outOfRange('options.engine', "'native', 'pipe' or 'any'", which);
  }
  for (const side of SIDES) {
    if (taken.has(sockets[side]) || client === upstream)
      throw codedError('ERR_RELAY_BUSY', `relay: ${side} is part of a relay already`);
  }
  if (which === 'native') {
    for (const side of SIDES) {
      const error = foreignRuntime() ?? refusal(side, sockets[side]);
      if (error) throw error;
    }
    binding();
  }
  return new SocketRelay(sockets, limits, which, signal);
}
