// A relay that one of the addon's threads runs.
import type { DialEnds } from '../dial/dial-error.ts';
import type { Mover, RelayOutcome } from './outcome.ts';
import type { Route } from './route.ts';

/** What was dialled, for an error: an address, or another way. */
export interface RelayEnds extends DialEnds {
  route?: Route;
}

export type OnClose = (outcome: RelayOutcome) => void;

/** What it asks of the engine, by its number. */
interface Engine {
  destroy(id: number, thread: number): void;
  countAlive(change: 1 | -1): void;
  bytes(id: number, direction: 0 | 1): number;
  connectMs(id: number): number;
  durationMs(id: number): number;
}

/** A relay that a thread of the addon runs. */
export class NativeMover implements Mover {
  readonly #engine: Engine;
  readonly #id: number;
  readonly thread: number;
  readonly ends: RelayEnds;
  readonly #onClose: OnClose;
  #alive = true;
  /** The slot is somebody else's once the relay has closed: its last numbers are kept. */
  #final: { toUpstream: number; toClient: number; connectMs: number; durationMs: number } | undefined;

  constructor(engine: Engine, id: number, thread: number, ends: RelayEnds, onClose: OnClose) {
    this.#engine = engine;
    this.#id = id;
    this.thread = thread;
    this.ends = ends;
    this.#onClose = onClose;
  }

  bytesToUpstream(): number {
    return this.#final?.toUpstream ?? this.#engine.bytes(this.#id, 0);
  }

  bytesToClient(): number {
    return this.#final?.toClient ?? this.#engine.bytes(this.#id, 1);
  }

  connectMs(): number | undefined {
    return this.#final && this.#final.connectMs >= 0 ? this.#final.connectMs : undefined;
  }

  durationMs(): number | undefined {
    return this.#final?.durationMs;
  }

  destroy(): void {
    if (!this.#final) this.#engine.destroy(this.#id, this.thread);
  }

  keepAlive(on: boolean): void {
    if (this.#final || on === this.#alive) return;
    this.#alive = on;
    this.#engine.countAlive(on ? 1 : -1);
  }

  finish(outcome: RelayOutcome): void {
    this.keepAlive(false);
    this.#final = {
      toUpstream: this.bytesToUpstream(),
      toClient: this.bytesToClient(),
      connectMs: this.#engine.connectMs(this.#id),
      durationMs: this.#engine.durationMs(this.#id),
    };
    this.#onClose(outcome);
  }
}
