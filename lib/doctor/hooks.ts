// Which hooks lead to a chain that others jump to.

/** Chains that jump to others, by name; base chains have a hook. */
export class Hooks {
  readonly #own = new Map<string, string>();
  readonly #callers = new Map<string, Set<string>>();

  /** A base chain. */
  base(chain: string, hook: string): void {
    this.#own.set(chain, hook);
  }

  jump(from: string, to: string): void {
    this.#callers.set(to, (this.#callers.get(to) ?? new Set()).add(from));
  }

  /** The hooks that a packet in this chain may have come from. */
  of(chain: string, seen = new Set<string>()): string[] {
    if (seen.has(chain)) return [];
    seen.add(chain);
    const own = this.#own.get(chain);
    const callers = [...(this.#callers.get(chain) ?? [])].flatMap((caller) => this.of(caller, seen));
    return [...new Set([...(own === undefined ? [] : [own]), ...callers])];
  }
}
