// The lines of the access log.
import { formatEndpoint } from '../address.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { bytes, type Paint } from './output.ts';

/** One connection, from accept to end. */
export interface AccessRecord {
  /** When it was accepted, RFC 3339. */
  time: string;
  client: string;
  /** Undefined where it is not known where the client was going. */
  destination?: string;
  kind: OriginalDst['kind'];
  /** What the client's first bytes are, where they were looked at, and the name that it asks for in them. */
  protocol?: FirstBytes['protocol'];
  name?: string;
  bytesToUpstream: number;
  bytesToClient: number;
  durationMs: number;
  /** `end`, `idle`, `aborted`, `reset by client`, or an error's code: `ECONNREFUSED`, `ERR_EGRESS_DENIED`. */
  reason: string;
}

/** The part of a record that is known when it is decided. */
export function begin(
  client: { address: string; port: number },
  dst: OriginalDst,
  first?: FirstBytes,
): Pick<AccessRecord, 'time' | 'client' | 'destination' | 'kind' | 'protocol' | 'name'> {
  return {
    time: new Date().toISOString(),
    client: formatEndpoint(client),
    ...(dst.kind === 'unknown' ? {} : { destination: formatEndpoint(dst) }),
    kind: dst.kind,
    ...(first === undefined ? {} : { protocol: first.protocol }),
    ...(first?.name === undefined ? {} : { name: first.name }),
  };
}

const UNREMARKABLE = new Set(['end', 'idle', 'aborted']);

/** One line for people. */
export function accessText(record: AccessRecord, paint: Paint): string {
  const { time, client, destination = 'unknown', bytesToUpstream, bytesToClient } = record;
  const what = [record.kind, record.protocol, record.name].filter((word) => word !== undefined).join(' ');
  const reason = UNREMARKABLE.has(record.reason) ? record.reason : paint('red', record.reason);
  return `${paint('dim', time)} ${client} → ${paint('bold', destination)} ${what} ↑ ${bytes(bytesToUpstream)} ↓ ${bytes(bytesToClient)} ${record.durationMs} ms ${reason}\n`;
}

/** The line for connections whose lines nobody read in time. */
export function droppedText(count: number, format: 'text' | 'json' | 'none'): string {
  const time = new Date().toISOString();
  if (format === 'json') return `${JSON.stringify({ time, log: { dropped: count } })}\n`;
  return `${time} ${count} lines of this log were dropped: they were not read in time\n`;
}
