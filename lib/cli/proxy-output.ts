// What the proxy says: an access log on standard output, messages and a status line on standard error.
import { neverWait } from '../node/socket-fd.ts';
import { type AccessRecord, accessText, droppedText } from './access-log.ts';
import { BoundedWriter } from './bounded-writer.ts';
import { bytes, type Paint } from './output.ts';
import { StatusLine } from './status-line.ts';

/** How long readers may take for the last lines. */
const LAST_MS = 1000;

export type LogFormat = 'text' | 'json' | 'none';

export interface Totals {
  open: number;
  connections: number;
  toUpstream: number;
  toClient: number;
}

export class ProxyOutput {
  readonly #format: LogFormat;
  readonly #paint: Paint;
  readonly #log: BoundedWriter;
  readonly #messages: BoundedWriter;
  readonly #status: StatusLine;

  constructor(format: LogFormat, paint: Paint, totals: () => Totals) {
    this.#format = format;
    this.#paint = paint;
    for (const stream of [process.stdout, process.stderr]) if (stream.isTTY) neverWait(stream);
    this.#log = new BoundedWriter(process.stdout, (count) => droppedText(count, format));
    this.#messages = new BoundedWriter(process.stderr, (count) => `${count} lines are missing here\n`);
    this.#status = new StatusLine(process.stderr, this.#messages, () => {
      const { open, connections, toUpstream, toClient } = totals();
      /* c8 ignore next -- a status line beside a log that goes elsewhere, to a reader that has stopped */
      const dropped = this.#log.dropped > 0 ? `, ${this.#log.dropped} log lines dropped` : '';
      return `${open} open, ${connections} connections, ↑ ${bytes(toUpstream)} ↓ ${bytes(toClient)}${dropped}`;
    });
  }

  say(message: string): void {
    this.#status.above(this.#messages, `${message}\n`);
  }

  record(record: AccessRecord): void {
    if (this.#format === 'none') return;
    const line = this.#format === 'json' ? `${JSON.stringify(record)}\n` : accessText(record, this.#paint);
    this.#status.above(this.#log, line);
  }

  /**
   * Nothing more will be said.
   *
   * @returns whether readers have taken all: if not, what is left keeps this process from ending by itself
   */
  async end(): Promise<boolean> {
    this.#status.stop();
    const taken = await this.#log.flush(LAST_MS);
    const { dropped } = this.#log;
    if (dropped > 0) {
      this.#messages.write(`${dropped} lines of the access log were dropped: nobody read them in time\n`);
    }
    return (await this.#messages.flush(LAST_MS)) && taken;
  }
}
