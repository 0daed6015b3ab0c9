// Addresses in the addon's memory as objects, each made once.
import type { Endpoint } from '../address.ts';
import { endpointAt, setAddress, Role } from '../recover/kernel-answer.ts';

const WORDS = 6;
const SCOPE = 1;
const MAX_REMEMBERED = 4096;

/**
 * Addresses in the addon's memory (struct Endpoint of src/socket/endpoint.h) to objects, each made once: making the text
 * takes longer than receiving the datagram. The objects are shared between messages, hence frozen.
 */
export class EndpointCache {
  readonly #words: Int32Array;
  readonly #halves: Uint16Array;
  readonly #known = new Map<number | string, Readonly<Endpoint>>();
  readonly #lastWords = new Int32Array(WORDS);
  #last: Readonly<Endpoint> | undefined;

  constructor(memory: ArrayBuffer) {
    this.#words = new Int32Array(memory);
    this.#halves = new Uint16Array(memory);
  }

  /** The address that starts at word `at`; undefined where there is none (family 0). */
  get(at: number): Readonly<Endpoint> | undefined {
    if (this.#isLast(at)) return this.#last;
    const family = this.#halves[at * 2]!;
    if (family === 0) return undefined;
    // The name of an interface can become another one's.
    if (this.#words[at + SCOPE] !== 0) return this.#make(at);
    const key = family === 4 ? this.#keyOfV4(at) : this.#words.subarray(at, at + WORDS).join();
    let endpoint = this.#known.get(key);
    if (endpoint === undefined) {
      endpoint = this.#make(at);
      // Sources can be forged without end.
      if (this.#known.size >= MAX_REMEMBERED) this.#known.clear();
      this.#known.set(key, endpoint);
    }
    for (let word = 0; word < WORDS; word++) this.#lastWords[word] = this.#words[at + word]!;
    this.#last = endpoint;
    return endpoint;
  }

  #make(at: number): Readonly<Endpoint> {
    setAddress(Role.scratch, this.#words, at);
    return Object.freeze(endpointAt(Role.scratch));
  }

  #isLast(at: number): boolean {
    for (let word = 0; word < WORDS; word++) {
      if (this.#lastWords[word] !== this.#words[at + word]) return false;
    }
    return true;
  }

  /** 32 bits of address and 16 of port fit into a number. */
  #keyOfV4(at: number): number {
    return (this.#words[at + 2]! >>> 0) * 0x10000 + this.#halves[at * 2 + 1]!;
  }
}
