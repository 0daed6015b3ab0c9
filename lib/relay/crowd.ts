// A collection of what comes and goes by the thousand.

/** The place of what is in no crowd. */
export const OUTSIDE = -1;

/** What can be in one {@link Crowd} at a time. */
export interface Member {
  /** Where; the crowd's own, and {@link OUTSIDE} to begin with. */
  place: number;
}

/**
 * In no order. A Set that is added to and deleted from all the time makes a new table every so often, and each old table
 * points to the next: once V8 has moved one of them to its old generation, scavenges take all later ones, and what was in
 * them, for alive. Each then copies megabytes, for milliseconds, until the next full collection.
 */
export class Crowd<T extends Member> {
  readonly #all: T[] = [];

  get size(): number {
    return this.#all.length;
  }

  add(member: T): void {
    member.place = this.#all.length;
    this.#all.push(member);
  }

  delete(member: T): void {
    const { place } = member;
    if (place === OUTSIDE) return;
    member.place = OUTSIDE;
    const last = this.#all.pop()!;
    if (last === member) return;
    this.#all[place] = last;
    last.place = place;
  }

  /** Those that are in it now, whatever becomes of them meanwhile. */
  all(): T[] {
    return [...this.#all];
  }
}
