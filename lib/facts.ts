import type { Endpoint } from './address.ts';
import { binding } from './binding.ts';

/** Where each Endpoint starts in struct Facts (src/original_dst.h), in 32-bit words, and the statuses behind them. */
const SLOT_WORDS = 6;
const ORIGINAL_STATUS = 18;
const PEER_STATUS = 19;

/** The three addresses of an accepted connection. */
export const Slot = { original: 0, local: 1, peer: 2 } as const;
export type Slot = (typeof Slot)[keyof typeof Slot];

let words: Int32Array | undefined;

function view(): Int32Array {
  return (words ??= new Int32Array(binding().facts));
}

/** 0 or the negative errno of SO_ORIGINAL_DST in the last readFacts. */
export function originalStatus(): number {
  return view()[ORIGINAL_STATUS]!;
}

/** 0 or the negative errno of getpeername in the last readFacts. */
export function peerStatus(): number {
  return view()[PEER_STATUS]!;
}

/** Are two of the addresses the same, port included? The interface of a link-local address is not compared. */
export function sameEndpoint(a: Slot, b: Slot): boolean {
  const memory = view();
  const left = a * SLOT_WORDS;
  const right = b * SLOT_WORDS;
  return (
    memory[left] === memory[right] &&
    memory[left + 2] === memory[right + 2] &&
    memory[left + 3] === memory[right + 3] &&
    memory[left + 4] === memory[right + 4] &&
    memory[left + 5] === memory[right + 5]
  );
}

/** 4 or 6. */
export function familyAt(slot: Slot): 4 | 6 {
  return (view()[slot * SLOT_WORDS]! & 0xffff) as 4 | 6;
}

export function portAt(slot: Slot): number {
  return view()[slot * SLOT_WORDS]! >>> 16;
}

/** The address as an object of its own; the shared memory may be overwritten by the next call. */
export function endpointAt(slot: Slot): Endpoint {
  return {
    address: binding().addressText(slot),
    port: portAt(slot),
    family: familyAt(slot) === 4 ? 'IPv4' : 'IPv6',
  };
}
