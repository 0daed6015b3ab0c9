// Which flows have lost their conntrack entry lately.
import type { Endpoint } from '../address.ts';

/** Tells of the conntrack entries that were deleted since it was asked last: DatagramPort. */
export interface DeletionSource {
  /** False where the kernel does not tell. */
  watch(): boolean;
  /** False: some were missed. */
  deletions(each: (source: Endpoint, local: Endpoint) => void): boolean;
}

/** One text for the flow of a datagram. */
export function flowOf(source: Endpoint, local: Endpoint): string {
  return `${source.port} ${withoutInterface(source)} ${withoutInterface(local)}`;
}

/** Conntrack knows no interfaces. */
function withoutInterface({ address }: Endpoint): string {
  const end = address.indexOf('%');
  return end < 0 ? address : address.slice(0, end);
}

const NOTHING: ReadonlySet<string> = new Set();

/**
 * The flows whose conntrack entry may be younger than a datagram of theirs that waited in the socket's queue.
 *
 * A datagram's own entry was there when the datagram came in. What is found for its addresses later is that entry,
 * unless it was deleted meanwhile; and the kernel tells of a deletion before the addresses are free for another. So:
 * what was deleted is asked for after the entry was, and counts against all datagrams that may have been there by then.
 */
export class DeletedFlows {
  readonly #source: DeletionSource;
  #watching: boolean | undefined;
  /** Told since the queue was last seen empty. */
  #recent = new Set<string>();
  /** Told before that, but perhaps after the datagrams of the present batch came in. */
  #before = NOTHING;
  #missedRecently = false;
  #missedBefore = false;
  #emptied = false;

  constructor(source: DeletionSource) {
    this.#source = source;
  }

  /** Begins to listen. Of entries that are older it may never hear. */
  watch(): boolean {
    return (this.#watching ??= this.#source.watch());
  }

  /**
   * To be called after each receive.
   *
   * @param emptied it took all that there was: what comes later is younger than all that was told before
   */
  startBatch(emptied: boolean): void {
    if (this.#emptied) {
      this.#before = NOTHING;
      this.#missedBefore = false;
    }
    if (emptied) {
      if (this.#recent.size > 0) {
        this.#before = new Set([...this.#before, ...this.#recent]);
        this.#recent = new Set();
      }
      this.#missedBefore ||= this.#missedRecently;
      this.#missedRecently = false;
    }
    this.#emptied = emptied;
  }

  /**
   * What was deleted since the last call.
   *
   * @param forget is called with each flow, or without when it may have been any
   */
  learn(forget: (flow?: string) => void): void {
    if (this.#watching !== true) return;
    const complete = this.#source.deletions((source, local) => {
      const flow = flowOf(source, local);
      this.#recent.add(flow);
      forget(flow);
    });
    if (complete) return;
    this.#missedRecently = true;
    forget();
  }

  has(flow: string): boolean {
    return this.#missedRecently || this.#missedBefore || this.#recent.has(flow) || this.#before.has(flow);
  }
}
