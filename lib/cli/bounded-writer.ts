// Lines for a reader who may be slow, stuck or gone: never waits for it, never grows past a limit.
import type { Writable } from 'node:stream';

/** What may wait, in characters. The stream's own buffer (16 KiB) and the pipe's (64 KiB) come on top. */
const LIMIT = 1 << 20;

/** The reader has gone for good: a closed pipe, a terminal that was hung up. */
const GONE = new Set(['EPIPE', 'EIO']);

const linesOf = (text: string): number => text.split('\n').length - 1;

/**
 * A stream behind a queue with an end. A plain `write` keeps whatever the reader does not take: some 2 kB a line,
 * for as long as the reader is stuck, and the process does not end before it is read.
 */
export class BoundedWriter {
  readonly #stream: Writable;
  readonly #gap: (count: number) => string;
  #waiting = '';
  #gone = false;
  #dropped = 0;
  /** Of those dropped, what the reader has not been told of. */
  #untold = 0;

  /** @param gap the line that stands for so many that are missing in its place */
  constructor(stream: Writable, gap: (count: number) => string) {
    this.#stream = stream;
    this.#gap = gap;
    stream.on('drain', () => this.#handOn());
    stream.on('error', ({ code = '' }: NodeJS.ErrnoException) => {
      if (GONE.has(code)) this.#leave();
    });
  }

  /** Lines that the reader did not get. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Would the next line have to wait? */
  get busy(): boolean {
    return this.#gone || this.#waiting !== '' || this.#stream.writableNeedDrain;
  }

  /** Takes finished lines. */
  write(lines: string): void {
    if (!this.busy) {
      this.#handOn();
      this.#put(lines, linesOf(lines), 0);
    } else if (this.#gone || this.#untold > 0 || this.#waiting.length + lines.length > LIMIT) {
      // Once one is missing all are, until the line about it: none is to stand before an older one.
      this.#lose(linesOf(lines), 0);
    } else {
      this.#waiting += lines;
    }
  }

  /**
   * Hands on what waits and gives the reader so long to take it.
   *
   * @returns whether it has
   */
  async flush(ms: number): Promise<boolean> {
    if (!this.#gone) this.#handOn();
    if (this.#gone || this.#stream.writableLength === 0) return true;
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), ms);
      this.#stream.write('', () => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  #handOn(): void {
    const [waiting, told] = [this.#waiting, this.#untold];
    this.#waiting = '';
    this.#untold = 0;
    const text = told > 0 ? waiting + this.#gap(told) : waiting;
    if (text !== '') this.#put(text, linesOf(waiting), told);
  }

  /** A full disk takes nothing either, and may have room again later. */
  #put(text: string, lines: number, told: number): void {
    this.#stream.write(text, (error) => {
      if (error) this.#lose(lines, told);
    });
  }

  #lose(lines: number, told: number): void {
    this.#dropped += lines;
    this.#untold += lines + told;
  }

  #leave(): void {
    this.#gone = true;
    this.#lose(linesOf(this.#waiting), 0);
    this.#waiting = '';
  }
}
