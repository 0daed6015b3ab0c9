// The line at the bottom of a terminal that says how things stand.
import type { BoundedWriter } from './bounded-writer.ts';

/** Clears the line that the cursor is on. */
const CLEAR = '\r\u001b[K';

const EVERY_MS = 1000;

/** Of a terminal that does not know how wide it is: a serial line, a pseudo-terminal that nobody has set up. */
const USUAL_COLUMNS = 80;

/** One line that is written anew every second; other output goes above it. */
export class StatusLine {
  readonly #stream: NodeJS.WriteStream;
  readonly #out: BoundedWriter;
  readonly #text: () => string;
  readonly #timer: NodeJS.Timeout | undefined;

  /**
   * Does nothing but pass output on where `stream` is no terminal.
   *
   * @param out what writes to `stream`
   */
  constructor(stream: NodeJS.WriteStream, out: BoundedWriter, text: () => string) {
    this.#stream = stream;
    this.#out = out;
    this.#text = text;
    if (stream.isTTY) this.#timer = setInterval(() => this.#draw(), EVERY_MS);
  }

  #draw(): void {
    // For a terminal that takes nothing (Ctrl-S) a line that tells how things stood then is of no use.
    if (this.#out.busy) return;
    // A wider line would wrap, and the next clearing would take only its last part away.
    this.#out.write(CLEAR + this.#text().slice(0, (this.#stream.columns || USUAL_COLUMNS) - 1));
  }

  /** Writes finished lines, perhaps to the same terminal. */
  above(writer: BoundedWriter, lines: string): void {
    if (this.#timer === undefined) {
      writer.write(lines);
      return;
    }
    this.#out.write(CLEAR);
    writer.write(lines);
    this.#draw();
  }

  stop(): void {
    if (this.#timer === undefined) return;
    clearInterval(this.#timer);
    this.#out.write(CLEAR);
  }
}
