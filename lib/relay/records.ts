// One record for each connection to a relay server, told in batches.
import type { Endpoint } from '../address.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { RelayVerdict } from './decision.ts';

/** What became of one connection to a relay server, when it is over. */
export interface ConnectionRecord {
  /** When it was accepted, in milliseconds since the epoch. */
  readonly time: number;
  readonly client: Endpoint;
  /** Where the client was going; undefined where that is not known, or was not asked because of a limit. */
  readonly destination: Endpoint | undefined;
  /** How it came here. */
  readonly kind: OriginalDst['kind'];
  /** With `inspect`: what its first bytes have said. */
  readonly protocol?: FirstBytes['protocol'];
  readonly name?: string;
  /** What was decided; undefined where it did not come to that: a limit, a loop, a client that had gone. */
  readonly verdict: RelayVerdict | undefined;
  /** By a lasting verdict, without a question to `decide`? */
  readonly lasting: boolean;
  /** How long it took to connect to the destination; undefined where there was no connection. */
  readonly connectMs: number | undefined;
  /** From accept to end. */
  readonly durationMs: number;
  readonly bytesToUpstream: number;
  readonly bytesToClient: number;
  /**
   * `end`, `idle`, `aborted`, `reset by client`, `reset by upstream`, `reset by verdict`, `emitted` (given to
   * `'connection'`), or an error's code: `ECONNREFUSED`, `ERR_EGRESS_DENIED`, `ERR_MAX_PER_CLIENT`.
   */
  readonly outcome: string;
}

/**
 * A record, with what the first bytes have said where they have been looked at. Optional parts spread into an object
 * literal cost V8 two microseconds: it makes a map of its own for each.
 */
export function recordOf(
  known: Omit<ConnectionRecord, 'protocol' | 'name'>,
  protocol: FirstBytes['protocol'] | undefined,
  name: string | undefined,
): ConnectionRecord {
  const record: { -readonly [Key in keyof ConnectionRecord]: ConnectionRecord[Key] } = known;
  if (protocol !== undefined) record.protocol = protocol;
  if (name !== undefined) record.name = name;
  return record;
}

/** So many at a time, or as many as there are after so many milliseconds. */
const BATCH = 256;
const BATCH_MS = 100;

/** A connection that `decide` is asked about, and that will be recorded. */
export class OpenRecord {
  readonly #batches: RecordBatches;
  readonly #time: number;
  readonly #client: Endpoint;
  readonly #destination: OriginalDst;
  readonly #first: FirstBytes | undefined;
  readonly #accepted: number;

  constructor(
    batches: RecordBatches,
    client: Endpoint,
    destination: OriginalDst,
    first: FirstBytes | undefined,
    age: number,
  ) {
    this.#batches = batches;
    this.#time = Date.now() - age;
    this.#client = client;
    this.#destination = destination;
    this.#first = first;
    this.#accepted = performance.now() - age;
  }

  end(
    verdict: RelayVerdict | undefined,
    outcome: string,
    { bytesToUpstream = 0, bytesToClient = 0, connectMs = undefined as number | undefined } = {},
    over = performance.now(),
  ): void {
    const known = {
      time: this.#time,
      client: this.#client,
      destination: endpointOf(this.#destination),
      kind: this.#destination.kind,
      verdict,
      lasting: false,
      connectMs,
      durationMs: over - this.#accepted,
      bytesToUpstream,
      bytesToClient,
      outcome,
    };
    this.#batches.add(recordOf(known, this.#first?.protocol, this.#first?.name));
  }
}

function endpointOf(destination: OriginalDst): Endpoint | undefined {
  if (destination.kind === 'unknown') return undefined;
  const { address, port, family } = destination;
  return { address, port, family };
}

/** Gathers records, for as long as somebody wants them. */
export class RecordBatches {
  readonly #tell: (records: ConnectionRecord[]) => void;
  #batch: ConnectionRecord[] = [];
  #timer: NodeJS.Timeout | undefined;
  /** Does somebody want them? */
  wanted = false;

  constructor(tell: (records: ConnectionRecord[]) => void) {
    this.#tell = tell;
  }

  /** Of a connection that was accepted `age` milliseconds ago. Undefined where nobody wants to know. */
  begin(
    client: Endpoint,
    destination: OriginalDst,
    first: FirstBytes | undefined,
    age: number,
  ): OpenRecord | undefined {
    return this.wanted ? new OpenRecord(this, client, destination, first, age) : undefined;
  }

  add(record: ConnectionRecord): void {
    this.#batch.push(record);
    if (this.#batch.length >= BATCH) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), BATCH_MS);
  }

  /** Those that a thread of the addon has gathered. */
  addAll(records: ConnectionRecord[]): void {
    this.#tell(records);
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const records = this.#batch;
    this.#batch = [];
    if (records.length > 0) this.#tell(records);
  }
}
