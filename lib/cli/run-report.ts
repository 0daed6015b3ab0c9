// What a captured command has talked to: a record for each, and a table at the end.
import { type Endpoint, formatEndpoint } from '../address.ts';
import type { EventEmitter } from 'node:events';
import type { CaptureEvents } from '../capture/index.ts';
import type { ClientProcess } from '../recover/proc.ts';
import type { RelayOutcome } from '../relay/outcome.ts';
import { bytes } from './output.ts';
import type { RunRecord } from './run-log.ts';

/** One line of the table: all that went to one destination by one name. */
interface Row {
  name: string;
  destination: string;
  count: number;
  up: number;
  down: number;
  verdict: string;
}

function ended(outcome: RelayOutcome): string {
  return outcome.reason === 'error' ? (outcome.error as NodeJS.ErrnoException).code! : 'passed';
}

function now(): string {
  return new Date().toISOString();
}

/** What the log says of a process. */
function by(process: ClientProcess | undefined): { pid?: number; command?: readonly string[] } {
  return process === undefined ? {} : { pid: process.pid, command: process.command };
}

/** Listens to a capture from its beginning. */
export class RunReport {
  readonly #rows = new Map<string, Row>();
  readonly #flows: { row: Row; flow: { bytesToUpstream: number; bytesToClient: number } }[] = [];
  readonly #log: (record: RunRecord) => void;
  denied = 0;

  constructor(capture: EventEmitter<CaptureEvents>, log: (record: RunRecord) => void) {
    this.#log = log;
    capture.on('relay', (relay, destination, client, name, process) => {
      const began = Date.now();
      relay.on('close', (outcome) => {
        const { bytesToUpstream: up, bytesToClient: down } = relay;
        const row = this.#row(name, destination as Endpoint, ended(outcome));
        row.count++;
        row.up += up;
        row.down += down;
        this.#log({
          time: now(),
          event: 'relay',
          name,
          destination: destination as Endpoint,
          client,
          ...by(process),
          up,
          down,
          ms: Date.now() - began,
          end: ended(outcome),
        });
      });
    });
    capture.on('datagrams', (flow) => {
      const row = this.#row(flow.name, flow.destination, 'passed');
      row.count++;
      this.#flows.push({ row, flow });
      const { name, destination, client, process } = flow;
      this.#log({ time: now(), event: 'datagrams', name, destination, client, ...by(process) });
    });
    capture.on('query', ({ question: { name, type }, outcome }, process) =>
      this.#log({ time: now(), event: 'query', name, type, ...by(process), outcome }),
    );
    capture.on('denied', (denial) => {
      this.denied++;
      this.#row(denial.name, denial.destination, `denied: ${denial.because}`).count++;
      const { process, ...about } = denial;
      this.#log({ time: now(), event: 'denied', ...about, ...by(process) });
    });
  }

  /** Empty if there is nothing to tell. */
  table(): string {
    for (const { row, flow } of this.#flows) {
      row.up += flow.bytesToUpstream;
      row.down += flow.bytesToClient;
    }
    this.#flows.length = 0;
    const lines = [...this.#rows.values()].map(({ name, destination, count, up, down, verdict }) => [
      name,
      destination,
      String(count),
      bytes(up),
      bytes(down),
      verdict,
    ]);
    if (lines.length === 0) return '';
    const all = [['NAME', 'DESTINATION', 'COUNT', '↑', '↓', 'VERDICT'], ...lines];
    const widths = all[0]!.map((_, at) => Math.max(...all.map((line) => line[at]!.length)));
    return all
      .map((line) =>
        line
          .map((cell, at) => cell.padEnd(widths[at]!))
          .join('  ')
          .trimEnd(),
      )
      .map((line) => `${line}\n`)
      .join('');
  }

  #row(name = '', to: Pick<Endpoint, 'address' | 'port'> | undefined, verdict: string): Row {
    const destination = to === undefined ? '' : formatEndpoint(to);
    const key = `${name} ${destination} ${verdict}`;
    const known = this.#rows.get(key);
    if (known) return known;
    const row = { name, destination, count: 0, up: 0, down: 0, verdict };
    this.#rows.set(key, row);
    return row;
  }
}
