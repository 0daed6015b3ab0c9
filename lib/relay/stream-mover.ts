// The relay over Node's streams, for sockets that the addon cannot take.
import type { Socket } from 'node:net';
import type { SystemError } from '../errors.ts';
import { untoldError } from '../node/untold-error.ts';
import { abandon } from './handover.ts';
import type { Mover, RelayOutcome, RelaySide } from './outcome.ts';
import type { RelayLimits } from './timeouts.ts';

/** One direction: what `source` says goes to `sink`, as fast as the sink takes it. */
class Direction {
  bytes = 0;
  done = false;

  constructor(source: Socket, sink: Socket, onMoved: () => void, onDone: () => void) {
    source.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length;
      onMoved();
      if (!sink.write(chunk)) source.pause();
    });
    sink.on('drain', () => source.resume());
    const finished = (): void => {
      this.done = true;
      onDone();
    };
    const end = (): void => {
      // A stream that was cut must not look like a whole one.
      const error = untoldError(source);
      if (error) {
        source.destroy(error);
        return;
      }
      // The caller may have ended it before the relay began.
      if (sink.writableFinished) finished();
      else sink.once('finish', finished).end();
    };
    if (source.readableEnded) end();
    else source.once('end', end);
    source.resume();
  }
}

/** A relay that Node's streams run: for sockets that cannot be handed to the addon, and to compare with. */
export class PipeMover implements Mover {
  readonly #sockets: Record<RelaySide, Socket>;
  readonly #up: Direction;
  readonly #down: Direction;
  readonly #limits: RelayLimits;
  readonly #onClose: (outcome: RelayOutcome) => void;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(
    sockets: Record<RelaySide, Socket>,
    limits: RelayLimits,
    onClose: (outcome: RelayOutcome) => void,
  ) {
    this.#sockets = sockets;
    this.#limits = limits;
    this.#onClose = onClose;
    const { client, upstream } = sockets;
    for (const side of ['client', 'upstream'] as const) this.#watch(side);
    this.#setTimer();
    const moved = (): void => void this.#timer?.refresh();
    const done = (): void => this.#onDirectionDone();
    this.#up = new Direction(client, upstream, moved, done);
    this.#down = new Direction(upstream, client, moved, done);
  }

  bytesToUpstream(): number {
    return this.#up.bytes;
  }

  bytesToClient(): number {
    return this.#down.bytes;
  }

  destroy(): void {
    this.#close({ reason: 'aborted' });
  }

  keepAlive(on: boolean): void {
    for (const socket of Object.values(this.#sockets)) {
      if (on) socket.ref();
      else socket.unref();
    }
  }

  #watch(side: RelaySide): void {
    const socket = this.#sockets[side];
    const { deadPeer } = this.#limits;
    // Node knows one number of the three: how long to wait before the first probe.
    if (deadPeer > 0) socket.setKeepAlive(true, deadPeer / 2);
    socket.on('error', (error: SystemError) => {
      const reset = error.code === 'ECONNRESET' || error.code === 'EPIPE';
      this.#close(reset ? { reason: 'reset', side } : { reason: 'error', side, error });
    });
    socket.once('close', () => this.#close({ reason: 'aborted', side }));
  }

  #setTimer(): void {
    const { idle, halfClose } = this.#limits;
    const half = this.#up?.done || this.#down?.done ? halfClose : 0;
    const limit = idle > 0 && half > 0 ? Math.min(idle, half) : idle || half;
    clearTimeout(this.#timer);
    if (limit > 0) this.#timer = setTimeout(() => this.#close({ reason: 'idle' }), limit);
  }

  #onDirectionDone(): void {
    if (this.#up.done && this.#down.done) this.#close({ reason: 'end' });
    else this.#setTimer();
  }

  #close(outcome: RelayOutcome): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const [sink, source] of [
      [this.#sockets.client, this.#sockets.upstream],
      [this.#sockets.upstream, this.#sockets.client],
    ] as const) {
      const cut = sink.writableLength > 0 || source.readableLength > 0;
      const broken = outcome.reason === 'reset' || outcome.reason === 'error' || 'side' in outcome;
      if (outcome.reason !== 'end' && (cut || broken)) abandon(sink);
      else sink.destroy();
    }
    this.#onClose(outcome);
  }
}
