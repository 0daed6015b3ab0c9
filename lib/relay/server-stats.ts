// What a relay server counts: some of it its thread, in memory of the addon, the rest here.
import { publishError } from '../accept/channels.ts';
import { countConnection, countLoop, type InterceptStats, newInterceptStats } from '../accept/stats.ts';
import type { CodedError } from '../errors.ts';
import { countRefusal } from '../policy/refusal.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { REFUSALS } from './admission.ts';
import { Crowd } from './crowd.ts';
import { type Histogram, HISTOGRAM_SIZE, type HistogramName, observe, sumOf } from './histogram.ts';
import type { NativeMover, RelayTotals } from './native-mover.ts';
import type { RelayOutcome } from './outcome.ts';

/** What a {@link RelayServer} has done so far, its thread included. `reset`: by verdict. */
export interface RelayServerStats extends InterceptStats {
  accepted: number;
  /** The same of each of the `threads`. */
  acceptedByThread: number[];
  /** Brought before `decide`; the others a lasting verdict covered. */
  undecided: number;
  /** Dialled. */
  relayed: number;
  /** Dials that failed, and connections for which there was no descriptor: sent RST. */
  failed: number;
  /** Clients that were gone before the decision. */
  gone: number;
  /** Clients whose first bytes are awaited now. */
  inspecting: number;
  /** Relays that are open now. */
  open: number;
  /** Moved so far, by all relays. */
  bytesToUpstream: number;
  bytesToClient: number;
  /** How long it took to connect to the destinations. */
  connectMs: Histogram;
  /** How long relays have lived that are over, from the dial on. */
  durationMs: Histogram;
  /** Records that the listeners of `'records'` were not told, because the event loop was busy for too long. */
  recordsDropped: number;
}

/** struct ListenerStats of src/relay/listener.h. */
const COUNTERS = [
  'accepted',
  'redirect',
  'tproxy',
  'ebpf',
  'proxy',
  'relayed',
  'reset',
  'failed',
  'undecided',
  'open',
  'bytesToUpstream',
  'bytesToClient',
  'inspecting',
  'gone',
  ...REFUSALS,
  'recordsDropped',
] as const;
const CONNECT_AT = COUNTERS.length;
const DURATION_AT = CONNECT_AT + HISTOGRAM_SIZE;
const SIZE = DURATION_AT + HISTOGRAM_SIZE;

export class ServerCounts {
  /** One for each thread. */
  #threads: Float64Array[] = [];
  readonly #connections = newInterceptStats();
  readonly #relays = new Crowd<NativeMover>();
  #relayed = 0;
  #failed = 0;
  #gone = 0;
  #bytesToUpstream = 0;
  #bytesToClient = 0;
  readonly #connectMs = new Float64Array(HISTOGRAM_SIZE);
  readonly #durationMs = new Float64Array(HISTOGRAM_SIZE);

  /** The threads' numbers, from now on. */
  attach(memories: ArrayBuffer[]): void {
    this.#threads = memories.map((memory) => new Float64Array(memory, 0, SIZE));
  }

  /** The memory is the addon's only as long as the listener is. */
  detach(): void {
    this.#threads = this.#threads.map((memory) => memory.slice());
  }

  /** A connection that comes to `decide`. */
  connection(destination: OriginalDst, about: object): void {
    countConnection(this.#connections, destination, about);
  }

  /** One that is refused, because the program has dialled itself. */
  loop(error: CodedError, about: object): void {
    countLoop(this.#connections, error, about);
    this.#connections.reset++;
  }

  reset(): void {
    this.#connections.reset++;
  }

  refused(error: CodedError, about: object): void {
    if (error.code === 'ERR_CLIENT_GONE') this.#gone++;
    else countRefusal(this.#connections.refused, error);
    publishError(error, about);
  }

  begin(relay: NativeMover): void {
    this.#relayed++;
    this.#relays.add(relay);
  }

  end(relay: NativeMover, outcome: RelayOutcome, totals: RelayTotals): void {
    if (totals.connectMs !== undefined) observe('connectMs', this.#connectMs, totals.connectMs);
    observe('durationMs', this.#durationMs, totals.durationMs);
    this.#relays.delete(relay);
    this.#bytesToUpstream += totals.bytesToUpstream;
    this.#bytesToClient += totals.bytesToClient;
    if (outcome.reason === 'error' && (outcome.error as NodeJS.ErrnoException).syscall !== 'relay')
      this.#failed++;
  }

  /** The relays that were begun here, not by the thread. */
  get relays(): Crowd<NativeMover> {
    return this.#relays;
  }

  #histogram(name: HistogramName, at: number, own: Float64Array): Histogram {
    return sumOf(name, [own, ...this.#threads.map((memory) => memory.subarray(at, at + HISTOGRAM_SIZE))]);
  }

  read(): RelayServerStats {
    const thread = Object.fromEntries(
      COUNTERS.map((name, at) => [name, this.#threads.reduce((sum, memory) => sum + memory[at]!, 0)]),
    ) as Record<(typeof COUNTERS)[number], number>;
    const { redirect, tproxy, ebpf, proxy, direct, unknown, reset, errors, refused } = this.#connections;
    let up = this.#bytesToUpstream;
    let down = this.#bytesToClient;
    for (const relay of this.#relays.all()) {
      up += relay.bytesToUpstream();
      down += relay.bytesToClient();
    }
    return {
      accepted: thread.accepted,
      acceptedByThread: this.#threads.map((memory) => memory[0]!),
      redirect: thread.redirect + redirect,
      tproxy: thread.tproxy + tproxy,
      ebpf: thread.ebpf + ebpf,
      proxy: thread.proxy + proxy,
      direct,
      unknown,
      errors: { ...errors },
      undecided: thread.undecided,
      relayed: thread.relayed + this.#relayed,
      reset: thread.reset + reset,
      refused: {
        ...refused,
        ...Object.fromEntries(
          REFUSALS.filter((reason) => thread[reason] > 0).map((reason) => [
            reason,
            thread[reason] + (refused[reason] ?? 0),
          ]),
        ),
      },
      failed: thread.failed + this.#failed,
      gone: thread.gone + this.#gone,
      inspecting: thread.inspecting,
      open: thread.open + this.#relays.size,
      bytesToUpstream: thread.bytesToUpstream + up,
      bytesToClient: thread.bytesToClient + down,
      connectMs: this.#histogram('connectMs', CONNECT_AT, this.#connectMs),
      durationMs: this.#histogram('durationMs', DURATION_AT, this.#durationMs),
      recordsDropped: thread.recordsDropped,
    };
  }
}
