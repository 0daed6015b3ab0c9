// How long first bytes are waited for, and how many: what the relay server and inspect() have in common.
import { checkInteger, MAX_MS } from '../arguments.ts';

export interface InspectLimits {
  /**
   * How long a client may take to say what it wants, in milliseconds; then it is decided about by what is there.
   * Default 3,000.
   */
  timeout?: number;
  /** As many of its bytes are looked at, at most. Default 16,384; up to 65,536. */
  maxBytes?: number;
}

const MOST_BYTES = 65_536;

/** Throws unless they are limits, named as `prefix` has it. */
export function readInspectLimits(
  { timeout = 3000, maxBytes = 16_384 }: InspectLimits,
  prefix: string,
): Required<InspectLimits> {
  checkInteger(`${prefix}.timeout`, timeout, 1, MAX_MS);
  checkInteger(`${prefix}.maxBytes`, maxBytes, 1, MOST_BYTES);
  return { timeout, maxBytes };
}
