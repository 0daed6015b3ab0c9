// A relay that one of the addon's threads runs.
import type { DialEnds } from '../dial/dial-error.ts';
import { type Member, OUTSIDE } from './crowd.ts';
import type { Mover, RelayOutcome } from './outcome.ts';
import type { Route } from './route.ts';

/** What was dialled, for an error: an address, or another way. */
export interface RelayEnds extends DialEnds {
  route?: Route;
}

/** What is left of a relay that is over. */
export interface RelayTotals {
  bytesToUpstream: number;
  bytesToClient: number;
  /** How long it took to connect to the upstream, in milliseconds, if it was dialled and did connect. */
  connectMs: number | undefined;
  /** How long it lived, in milliseconds. */
  durationMs: number;
}

export type OnClose = (outcome: RelayOutcome, totals: RelayTotals, mover: NativeMover) => void;

/** What it asks of the engine, by its number. */
interface Engine {
  destroy(id: number, thread: number): void;
  countAlive(change: 1 | -1): void;
  bytes(id: number, direction: 0 | 1): number;
  connectMs(id: number): number;
  durationMs(id: number): number;
}

/** A relay that a thread of the addon runs. */
export class NativeMover implements Mover, Member {
  readonly #engine: Engine;
  readonly #id: number;
  readonly thread: number;
  readonly ends: RelayEnds;
  readonly #onClose: OnClose;
  #alive = true;
  /** The slot is somebody else's once the relay has closed: its last numbers are kept. */
  #totals: RelayTotals | undefined;
  place = OUTSIDE;

  constructor(engine: Engine, id: number, thread: number, ends: RelayEnds, onClose: OnClose) {
    this.#engine = engine;
    this.#id = id;
    this.thread = thread;
    this.ends = ends;
    this.#onClose = onClose;
  }

  bytesToUpstream(): number {
    return this.#totals?.bytesToUpstream ?? this.#engine.bytes(this.#id, 0);
  }

  bytesToClient(): number {
    return this.#totals?.bytesToClient ?? this.#engine.bytes(this.#id, 1);
  }

  destroy(): void {
    if (!this.#totals) this.#engine.destroy(this.#id, this.thread);
  }

  keepAlive(on: boolean): void {
    if (this.#totals || on === this.#alive) return;
    this.#alive = on;
    this.#engine.countAlive(on ? 1 : -1);
  }

  finish(outcome: RelayOutcome): void {
    this.keepAlive(false);
    const connectMs = this.#engine.connectMs(this.#id);
    this.#totals = {
      bytesToUpstream: this.bytesToUpstream(),
      bytesToClient: this.bytesToClient(),
      connectMs: connectMs >= 0 ? connectMs : undefined,
      durationMs: this.#engine.durationMs(this.#id),
    };
    this.#onClose(outcome, this.#totals, this);
  }
}
