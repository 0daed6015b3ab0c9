// How long things have taken: counts by upper bound, as the addon keeps them and as a server's stats tell them.
import { binding } from '../binding.ts';

/** How many things have taken how long, in milliseconds. */
export interface Histogram {
  /** Upper bounds, rising. */
  readonly bounds: readonly number[];
  /** How many took at most so long, and longer than the bound before. The last, to which there is no bound: longer. */
  readonly counts: readonly number[];
  /** All of them together. */
  readonly sum: number;
}

/** struct Histogram of src/relay/histogram.h: a counter for each bound and one more, and the sum. */
const BOUNDS = 14;
const SUM = BOUNDS + 1;
/** In doubles. */
export const HISTOGRAM_SIZE = SUM + 1;

export type HistogramName = 'connectMs' | 'durationMs';

let known: Record<HistogramName, readonly number[]> | undefined;

/** The addon's, which counts by them too. */
function boundsOf(name: HistogramName): readonly number[] {
  if (!known) {
    const [dial, duration] = binding().relayBounds();
    const inMs = (bounds: number[]): readonly number[] => Object.freeze(bounds.map((us) => us / 1000));
    known = { connectMs: inMs(dial), durationMs: inMs(duration) };
  }
  return known[name];
}

/** Counts one more, in memory of the addon's layout. */
export function observe(name: HistogramName, memory: Float64Array, ms: number): void {
  const bounds = boundsOf(name);
  let at = 0;
  while (at < BOUNDS && ms > bounds[at]!) at++;
  memory[at]!++;
  memory[SUM]! += ms;
}

/** What several have counted. */
export function sumOf(name: HistogramName, memories: readonly Float64Array[]): Histogram {
  const total = (at: number): number => memories.reduce((sum, memory) => sum + memory[at]!, 0);
  return {
    bounds: boundsOf(name),
    counts: Array.from({ length: SUM }, (_, at) => total(at)),
    sum: total(SUM),
  };
}
