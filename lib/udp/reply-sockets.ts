// The sockets that answers leave from.
import { formatEndpoint } from '../address.ts';

interface Kept<S> {
  socket: S;
  usedAt: number;
}

/**
 * The sockets that answers leave from, by the address and port that they are bound to. At most `max` of them: the
 * one that was used the longest ago makes room; and none longer than `idleTimeout` milliseconds after its last use.
 */
export class ReplySockets<S> {
  readonly #max: number;
  readonly #idleTimeout: number;
  readonly #retire: (socket: S) => void;
  /** In the order of their last use. */
  readonly #kept = new Map<string, Kept<S>>();
  #timer: NodeJS.Timeout | undefined;

  /** @param retire gets each socket that is no longer kept, to close it */
  constructor(max: number, idleTimeout: number, retire: (socket: S) => void) {
    this.#max = max;
    this.#idleTimeout = idleTimeout;
    this.#retire = retire;
  }

  get size(): number {
    return this.#kept.size;
  }

  /**
   * The socket bound to that address, made by `open` if there is none.
   *
   * @throws what `open` throws
   */
  get(address: string, port: number, open: () => S): S {
    const key = formatEndpoint({ address, port });
    const known = this.#kept.get(key);
    const socket = known?.socket ?? open();
    this.#kept.delete(key);
    this.#kept.set(key, { socket, usedAt: performance.now() });
    if (this.#kept.size > this.#max) this.#retireOldest();
    this.#timer ??= this.#wake(this.#idleTimeout);
    return socket;
  }

  /** Retires them all. */
  clear(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (this.#kept.size > 0) this.#retireOldest();
  }

  #retireOldest(): void {
    const [key, { socket }] = this.#kept.entries().next().value!;
    this.#kept.delete(key);
    this.#retire(socket);
  }

  #wake(delay: number): NodeJS.Timeout {
    return setTimeout(() => this.#retireIdle(), delay).unref();
  }

  #retireIdle(): void {
    const now = performance.now();
    for (const { usedAt } of this.#kept.values()) {
      const left = usedAt + this.#idleTimeout - now;
      if (left > 0) {
        this.#timer = this.#wake(Math.ceil(left));
        return;
      }
      this.#retireOldest();
    }
    this.#timer = undefined;
  }
}
