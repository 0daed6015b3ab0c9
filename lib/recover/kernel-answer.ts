// What the kernel has said of an accepted connection, in the memory shared with the addon.
import type { Endpoint } from '../address.ts';
import { binding } from '../binding.ts';

/**
 * The addresses that the addon's memory holds: those of an accepted connection, and a place for an address that is no
 * part of an answer.
 */
export const Role = { scratch: 0, original: 1, local: 2, peer: 3, captured: 4 } as const;
export type AddressRole = (typeof Role)[keyof typeof Role];

/** struct KernelAnswer of src/glue/kernel_answer.h: five Endpoints of 24 bytes, then four statuses, then the origin. */
const WORDS_PER_ENDPOINT = 6;
const HALVES_PER_ENDPOINT = 12;
const ORIGINAL_STATUS = 30;
const PEER_STATUS = 31;
const ENTRY_STATUS = 32;
const CAPTURE_STATUS = 33;
const ORIGIN = 17;
const SCOPE = 1;

/** The same memory in three widths: views keep the machine's own byte order, as the addon does. */
interface Memory {
  readonly words: Int32Array;
  readonly halves: Uint16Array;
  readonly doubles: Float64Array;
}

let memory: Memory | undefined;

function answer(): Memory {
  if (memory) return memory;
  const buffer = binding().kernelAnswer;
  return (memory = {
    words: new Int32Array(buffer),
    halves: new Uint16Array(buffer),
    doubles: new Float64Array(buffer),
  });
}

/** 0 or the negative errno of SO_ORIGINAL_DST in the last readFacts. */
export function originalStatus(): number {
  return answer().words[ORIGINAL_STATUS]!;
}

/** 0 or the negative errno of getpeername in the last readFacts. */
export function peerStatus(): number {
  return answer().words[PEER_STATUS]!;
}

/**
 * 0 if the entry that SO_ORIGINAL_DST has answered from is this connection's own, or a negative errno: `ENOTCONN` (the
 * connection is over, its addresses are free for another), `EADDRINUSE` (segments came to the socket that were not its own).
 */
export function entryStatus(): number {
  return answer().words[ENTRY_STATUS]!;
}

/**
 * 1 if eBPF has captured the connection and the role `captured` says where it was going, 0 if no capture is concerned, or
 * a negative errno: the local address is an alias, but it is not known of what (`AliasTables` in src/ebpf/alias_table.h).
 */
export function captureStatus(): number {
  return answer().words[CAPTURE_STATUS]!;
}

/** Of the last readFacts with a listener's port: is the connection a dial of this program's? As `Origin` says. */
export function foundOrigin(): number {
  return answer().doubles[ORIGIN]!;
}

/** Puts an address found elsewhere, from word `at` of `source`, where the functions below and the addon look. */
export function setAddress(role: AddressRole, source: Int32Array, at: number): void {
  const { words } = answer();
  for (let word = 0; word < WORDS_PER_ENDPOINT; word++) {
    words[role * WORDS_PER_ENDPOINT + word] = source[at + word]!;
  }
}

/** Are two of the addresses the same, port included? The interface of a link-local address is not compared. */
export function sameEndpoint(a: AddressRole, b: AddressRole): boolean {
  const { words } = answer();
  const left = a * WORDS_PER_ENDPOINT;
  const right = b * WORDS_PER_ENDPOINT;
  return (
    words[left] === words[right] && // family and port
    words[left + 2] === words[right + 2] &&
    words[left + 3] === words[right + 3] &&
    words[left + 4] === words[right + 4] &&
    words[left + 5] === words[right + 5]
  );
}

/** 4 or 6. */
export function familyAt(role: AddressRole): 4 | 6 {
  return answer().halves[role * HALVES_PER_ENDPOINT] as 4 | 6;
}

/** The same as objects have it. */
export function familyNameAt(role: AddressRole): Endpoint['family'] {
  return familyAt(role) === 4 ? 'IPv4' : 'IPv6';
}

export function portAt(role: AddressRole): number {
  return answer().halves[role * HALVES_PER_ENDPOINT + 1]!;
}

/** The text of an address, and what it is the text of. */
interface KnownText {
  readonly text: string;
  readonly family: number;
  readonly words: readonly [number, number, number, number];
}

/**
 * Those that were asked for last, each in the one place that its words lead to: the same few destinations and clients
 * come again and again, and having the addon make a string costs a third of a system call.
 */
const knownTexts: (KnownText | undefined)[] = Array.from({ length: 256 });

/** The address as text. */
export function addressText(role: AddressRole): string {
  const { words } = answer();
  const at = role * WORDS_PER_ENDPOINT;
  // The name of an interface can become another one's.
  if (words[at + SCOPE] !== 0) return binding().addressText(role);
  const [a, b, c, d] = [words[at + 2]!, words[at + 3]!, words[at + 4]!, words[at + 5]!];
  const family = familyAt(role);
  const place = Math.imul(a ^ b ^ c ^ d, 0x9e3779b1) >>> 24;
  const known = knownTexts[place];
  if (
    known?.family === family &&
    known.words[0] === a &&
    known.words[1] === b &&
    known.words[2] === c &&
    known.words[3] === d
  ) {
    return known.text;
  }
  const text = binding().addressText(role);
  knownTexts[place] = { text, family, words: [a, b, c, d] };
  return text;
}

/** The address as an object of its own; the shared memory may be overwritten by the next call. */
export function endpointAt(role: AddressRole): Endpoint {
  return { address: addressText(role), port: portAt(role), family: familyNameAt(role) };
}
