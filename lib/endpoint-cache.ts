import type { Endpoint } from './address.ts';
import { endpointAt, setSlot, Slot } from './facts.ts';

const WORDS = 6;
const MAX_REMEMBERED = 4096;

/**
 * Addresses in the addon's form (struct Endpoint of src/endpoint.h) to objects, each made once: making the text
 * takes longer than receiving the datagram. The objects are shared between messages, hence frozen.
 */
export class EndpointCache {
  readonly #known = new Map<number | string, Readonly<Endpoint>>();
  readonly #lastWords = new Int32Array(WORDS);
  #last: Readonly<Endpoint> | undefined;

  /** The address whose six words start at `at`. */
  get(words: Int32Array, at: number): Readonly<Endpoint> {
    if (this.#last !== undefined && this.#isLast(words, at)) return this.#last;
    const key = keyOf(words, at);
    let endpoint = this.#known.get(key);
    if (endpoint === undefined) {
      setSlot(Slot.original, words, at);
      endpoint = Object.freeze(endpointAt(Slot.original));
      // Sources can be forged without end.
      if (this.#known.size >= MAX_REMEMBERED) this.#known.clear();
      this.#known.set(key, endpoint);
    }
    for (let word = 0; word < WORDS; word++) this.#lastWords[word] = words[at + word]!;
    this.#last = endpoint;
    return endpoint;
  }

  #isLast(words: Int32Array, at: number): boolean {
    const last = this.#lastWords;
    return (
      last[0] === words[at] &&
      last[2] === words[at + 2] &&
      last[3] === words[at + 3] &&
      last[4] === words[at + 4] &&
      last[5] === words[at + 5] &&
      last[1] === words[at + 1]
    );
  }
}

/** 32 bits of address and 16 of port fit into a number; an IPv6 address needs a string. */
function keyOf(words: Int32Array, at: number): number | string {
  const head = words[at]!;
  if ((head & 0xffff) === 4) return (words[at + 2]! >>> 0) * 0x10000 + (head >>> 16);
  return words.subarray(at, at + WORDS).join();
}
