// Where facts hold: the network namespace of the socket that they are asked about.
import { binding } from '../binding.ts';

/**
 * A network namespace, by a descriptor of it: addresses, routes and conntrack entries are one namespace's, and a socket's
 * need not be that of the thread which has it. Programs inherit sockets, get them from other processes, and open them
 * in containers.
 */
export class Place {
  /** A socket of the namespace, or a descriptor of itself; -1: this thread's. */
  readonly where: number;
  #number: number | undefined;

  /** @param number where the caller knows it */
  constructor(where: number, number?: number) {
    this.where = where;
    this.#number = number;
  }

  /** SO_NETNS_COOKIE: what is remembered of one namespace is remembered by it. A negative errno where it is not known. */
  get number(): number {
    return (this.#number ??= binding().namespaceNumber(this.where));
  }

  /** Is it another one than this thread's? Not, if the descriptor is of none at all. */
  get isElsewhere(): boolean {
    return this.where >= 0 && this.number >= 0 && this.number !== binding().namespaceNumber(-1);
  }
}

/** The calling thread's, at the time of the question. */
export function here(): Place {
  return new Place(-1);
}

/** What is remembered by namespace, of so many of them; what was remembered first is forgotten first. */
export class ByPlace<T> {
  readonly #make: () => T;
  readonly #kept = new Map<number, T>();

  constructor(make: () => T) {
    this.#make = make;
  }

  get({ number }: Place): T {
    const known = this.#kept.get(number);
    if (known !== undefined) return known;
    const made = this.#make();
    this.#kept.set(number, made);
    if (this.#kept.size > MAX_REMEMBERED) this.#kept.delete(this.#kept.keys().next().value!);
    return made;
  }
}

const MAX_REMEMBERED = 1024;
