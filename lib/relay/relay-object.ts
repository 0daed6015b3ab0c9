// One relay, as its user sees it.
import { EventEmitter } from 'node:events';
import type { Mover, RelayOutcome } from './outcome.ts';

/** The events of a {@link Relay}. */
export interface RelayEvents {
  close: [outcome: RelayOutcome];
}

/** Two connections whose bytes go from one to the other. Made by `relay()` and `createRelayServer()`. */
export interface Relay extends EventEmitter<RelayEvents> {
  /** Bytes that the upstream's socket has taken so far. Read from shared memory: no system call, no native call. */
  readonly bytesToUpstream: number;
  /** Bytes that the client's socket has taken so far. */
  readonly bytesToClient: number;
  /** How it ended; undefined while it runs. Known before `'close'` is emitted. */
  readonly outcome: RelayOutcome | undefined;
  /**
   * `close(2)` of both sockets; `'close'` follows, with reason `aborted`. Bytes underway are dropped, and the end that
   * misses them is sent RST in place of FIN.
   */
  destroy(): this;
  /** An open relay keeps the event loop alive, as a socket does. */
  ref(): this;
  /** Lets the process exit with the relay open. */
  unref(): this;
}

/** A relay whose bytes somebody will move. */
export class RelayObject extends EventEmitter<RelayEvents> implements Relay {
  #mover: Mover | undefined;
  #outcome: RelayOutcome | undefined;
  #alive = true;

  get bytesToUpstream(): number {
    return this.#mover?.bytesToUpstream() ?? 0;
  }

  get bytesToClient(): number {
    return this.#mover?.bytesToClient() ?? 0;
  }

  get outcome(): RelayOutcome | undefined {
    return this.#outcome;
  }

  destroy(): this {
    if (!this.#outcome) this.#mover?.destroy();
    return this;
  }

  ref(): this {
    return this.#keepAlive(true);
  }

  unref(): this {
    return this.#keepAlive(false);
  }

  #keepAlive(on: boolean): this {
    this.#alive = on;
    this.#mover?.keepAlive(on);
    return this;
  }

  /** From now on the bytes are this one's to move. */
  start(mover: Mover): void {
    this.#mover = mover;
    if (!this.#alive) mover.keepAlive(false);
  }

  /** To be called once. */
  finish(outcome: RelayOutcome): void {
    this.#outcome = outcome;
    // A tick later: who made it may not have returned yet, and a throwing listener must not keep others from theirs.
    process.nextTick(() => this.emit('close', outcome));
  }
}
