// A relay() that is made of Node's sockets, until it has handed them over.
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { dials, publishDial } from '../dial/channel.ts';
import { systemError, type SystemError } from '../errors.ts';
import { keepCounted, socketFd } from '../node/socket-fd.ts';
import { egressRefusal } from '../policy/egress.ts';
import { pathOf } from '../policy/own-dials.ts';
import { relays } from './channel.ts';
import { type Dialled, dialSocket } from './destination.ts';
import { engine } from './engine.ts';
import { abandon, isQuiet, refusal, stopReaders, takeBytes, waitUntilQuiet } from './handover.ts';
import type { NativeMover } from './native-mover.ts';
import type { Mover, RelayOutcome, RelaySide } from './outcome.ts';
import { RelayObject } from './relay-object.ts';
import { PipeMover } from './stream-mover.ts';
import type { RelayLimits } from './timeouts.ts';

/** Who moves the bytes. */
export type RelayEngine = 'native' | 'pipe' | 'any';

/** The client, and the upstream unless that is still to be dialled. */
type Sockets = [client: [RelaySide, Socket], ...upstream: [RelaySide, Socket][]];

const { ETIMEDOUT } = constants.errno;
/** A property, because to be in a WeakSet costs a socket as much as half of its constructor. */
const taken = Symbol('original-dst.relay');

/** Is it, or was it, part of a relay? */
export function isTaken(socket: Socket): boolean {
  return taken in socket;
}

export function sidesOf(client: Socket, upstream?: Socket): Sockets {
  return upstream === undefined
    ? [['client', client]]
    : [
        ['client', client],
        ['upstream', upstream],
      ];
}

/** A relay of a socket of Node's with another one, or with a destination. */
export class SocketRelay extends RelayObject {
  #sockets: Sockets | undefined;
  /** Of an upstream that is not there. */
  readonly #to: Dialled | undefined;
  readonly #limits: RelayLimits;
  readonly #engine: RelayEngine;
  readonly #signal: AbortSignal | undefined;
  /** Ends the waiting for the sockets to be ready. */
  #stopWaiting: (() => void) | undefined;
  #waitTimer: NodeJS.Timeout | undefined;
  #waitsFor: RelaySide | undefined;
  #onAbort: (() => void) | undefined;
  /** Takes the connections off the counts of the servers that accepted them. */
  #uncount: (() => void)[] = [];

  constructor(
    sockets: Sockets,
    to: Dialled | undefined,
    limits: RelayLimits,
    which: RelayEngine,
    signal?: AbortSignal,
  ) {
    super();
    this.#sockets = sockets;
    this.#to = to;
    this.#limits = limits;
    this.#engine = which;
    this.#signal = signal;
    for (const [, socket] of sockets) {
      (socket as { [taken]?: true })[taken] = true;
      stopReaders(socket);
    }
    // Ahead of everything that takes the sockets away.
    if (relays.hasSubscribers) {
      const destination = to && { destination: { address: to.address, port: to.port } };
      relays.publish({ relay: this, sockets: Object.fromEntries(sockets), ...destination });
    }
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
    const lost = sockets.find(([, socket]) => socket.destroyed || socket.errored !== null);
    if (lost) {
      const [side, socket] = lost;
      this.#onLost(side, socket.errored as SystemError | null);
      return;
    }
    if (sockets.every(([, socket]) => isQuiet(socket))) {
      this.#handOver(sockets);
      return;
    }
    this.#setWaitTimer(sockets.find(([, socket]) => socket.connecting)?.[0]);
    const stops = sockets.map(([, socket]) => waitUntilQuiet(socket, () => this.#proceed()));
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
    // An upstream that was dialled here sees to that itself, and its error names the address.
    if (limit === 0 || (this.#to && connecting === 'upstream')) return;
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

  #handOver(sockets: Sockets): void {
    if (this.#engine === 'pipe') {
      this.#startPipe(sockets);
      return;
    }
    for (const [side, socket] of sockets) {
      const error = refusal(side, socket);
      if (error === undefined) continue;
      if (this.#engine === 'any') this.#startPipe(sockets);
      else this.#giveUp({ reason: 'error', side, error }, abandon);
      return;
    }
    const [[, client], upstream] = sockets;
    if (upstream) this.#join(client, upstream[1]);
    else this.#connect(client, this.#to!);
  }

  #join(client: Socket, upstream: Socket): void {
    const ahead = { toUpstream: takeBytes(client), toClient: takeBytes(upstream) };
    const fds = { client: socketFd(client)!, upstream: socketFd(upstream)! };
    const mover = engine().add(fds, ahead, this.#limits, (outcome) => this.finish(outcome));
    if (typeof mover !== 'number') {
      this.#leave(mover);
    } else if (this.#engine === 'any') {
      if (ahead.toUpstream) client.unshift(ahead.toUpstream);
      if (ahead.toClient) upstream.unshift(ahead.toClient);
      this.#startPipe(sidesOf(client, upstream));
    } else {
      this.#giveUp({ reason: 'error', error: systemError(mover, { syscall: 'relay' }) }, abandon);
    }
  }

  #connect(client: Socket, to: Dialled): void {
    if (dials.hasSubscribers) publishDial({ relay: this }, [to]);
    if (this.outcome) return;
    const refused = egressRefusal(to.how.egress, to);
    if (refused) {
      this.#giveUp({ reason: 'error', side: 'upstream', error: refused }, abandon);
      return;
    }
    const ahead = takeBytes(client);
    const mover = engine().connect(socketFd(client)!, ahead, to, pathOf(client), this.#limits, (outcome) =>
      this.finish(outcome),
    );
    if (!(mover instanceof Error)) {
      this.#leave(mover);
    } else if (mover.syscall !== 'relay') {
      this.#giveUp({ reason: 'error', side: 'upstream', error: mover }, abandon);
    } else if (this.#engine === 'any') {
      if (ahead) client.unshift(ahead);
      this.#startPipe(sidesOf(client));
    } else {
      this.#giveUp({ reason: 'error', error: mover }, abandon);
    }
  }

  /** To the thread, which works with duplicates: Node's descriptors are closed, and the connections left alone. */
  #leave(mover: NativeMover): void {
    const sockets = this.#sockets!;
    this.start(mover);
    this.#uncount = sockets.map(([, socket]) => keepCounted(socket));
    for (const [, socket] of sockets) socket.destroy();
  }

  #startPipe([[, client], upstream]: Sockets): void {
    if (upstream) {
      this.start(
        new PipeMover({ client, upstream: upstream[1] }, this.#limits, (outcome) => this.finish(outcome)),
      );
      return;
    }
    this.#sockets = sidesOf(client, dialSocket(this.#to!, client, this.#limits.connect));
    this.#proceed();
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
    for (const [, socket] of sockets) {
      // An 'error' that is on its way was the relay's.
      socket.on('error', () => {});
      close(socket);
    }
    this.finish(outcome);
  }
}
