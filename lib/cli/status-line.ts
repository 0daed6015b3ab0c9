/** Clears the line that the cursor is on. */
const CLEAR = '\r\u001b[K';

const EVERY_MS = 1000;

/** Of a terminal that does not know how wide it is: a serial line, a pseudo-terminal that nobody has set up. */
const USUAL_COLUMNS = 80;

/** One line at the bottom of a terminal that is written anew every second; other output goes above it. */
export class StatusLine {
  readonly #out: NodeJS.WriteStream;
  readonly #text: () => string;
  readonly #timer: NodeJS.Timeout | undefined;

  /** Does nothing but pass output on where `out` is no terminal. */
  constructor(out: NodeJS.WriteStream, text: () => string) {
    this.#out = out;
    this.#text = text;
    if (out.isTTY) this.#timer = setInterval(() => this.#draw(), EVERY_MS);
  }

  #draw(): void {
    // A wider line would wrap, and the next clearing would take only its last part away.
    this.#out.write(CLEAR + this.#text().slice(0, (this.#out.columns || USUAL_COLUMNS) - 1));
  }

  /** Writes finished lines to a stream, which may be the same terminal. */
  above(stream: NodeJS.WriteStream, lines: string): void {
    if (this.#timer === undefined) {
      stream.write(lines);
      return;
    }
    this.#out.write(CLEAR);
    stream.write(lines);
    this.#draw();
  }

  stop(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#out.write(CLEAR);
  }
}
