// The log of a captured command: a line for each connection, flow, question and refusal.
import { createWriteStream, fstatSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Writable } from 'node:stream';
import { type Endpoint, formatEndpoint } from '../address.ts';
import { droppedText } from './access-log.ts';
import { BoundedWriter } from './bounded-writer.ts';
import { bytes } from './output.ts';

/** How long readers may take for the last lines. */
const LAST_MS = 1000;

/** A path, or a descriptor that this process has inherited. */
export type LogTarget = string | number;

interface Common {
  time: string;
  name?: string | undefined;
  pid?: number;
  command?: readonly string[];
}

/** One line. */
export type RunRecord = Common &
  (
    | {
        event: 'relay';
        destination: Readonly<Endpoint>;
        client: Readonly<Endpoint>;
        up: number;
        down: number;
        ms: number;
        end: string;
      }
    | { event: 'datagrams'; destination: Readonly<Endpoint>; client: Readonly<Endpoint> }
    | { event: 'query'; type: string; outcome: string }
    | {
        event: 'denied';
        protocol: string;
        destination: Readonly<Pick<Endpoint, 'address' | 'port'>> | undefined;
        because: string;
      }
  );

/** What became of it, in words. */
function told(record: RunRecord): string {
  if (record.event === 'query') return `${record.type} ${record.outcome}`;
  if (record.event === 'datagrams') return 'passed';
  if (record.event === 'denied') return `denied: ${record.because}`;
  return `↑ ${bytes(record.up)} ↓ ${bytes(record.down)} ${record.ms} ms ${record.end}`;
}

/** One line for people. */
function textOf(record: RunRecord): string {
  const { time, event, name, pid, command } = record;
  const to = record.event === 'query' ? undefined : record.destination;
  const destination = to && formatEndpoint(to);
  const by = pid === undefined ? undefined : `${command![0]}[${pid}]`;
  return [time, event, by, name, destination, told(record)].filter((word) => word !== undefined).join(' ');
}

/** One that never keeps this process waiting for its reader. */
function streamTo(target: LogTarget): Writable {
  const fd = typeof target === 'number' ? target : openSync(target, 'a', 0o666);
  const kind = fstatSync(fd);
  if (kind.isFIFO() || kind.isSocket()) return new Socket({ fd, readable: false, writable: true });
  return createWriteStream('', { fd });
}

export class RunLog {
  readonly #format: 'text' | 'json';
  readonly #writer: BoundedWriter;

  /** @throws what open(2) or fstat(2) say */
  constructor(target: LogTarget, format: 'text' | 'json') {
    this.#format = format;
    this.#writer = new BoundedWriter(streamTo(target), (count) => droppedText(count, format));
  }

  write(record: RunRecord): void {
    this.#writer.write(`${this.#format === 'json' ? JSON.stringify(record) : textOf(record)}\n`);
  }

  /** Nothing more will be said. Waits a second for a reader that has not taken all. */
  async end(): Promise<void> {
    await this.#writer.flush(LAST_MS);
  }
}
