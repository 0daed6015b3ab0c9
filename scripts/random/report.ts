// What a run has shown: a table of the kinds, the causes of what is unknown, and what is wrong.
import { KINDS } from './kinds.ts';
import type { Done, PolicyChange } from './server.ts';

/** All that is known of one kind. */
export interface Row {
  /** Connections that the clients began, datagrams that they sent. */
  begun: number;
  established: number;
  right: number;
  wrong: number;
  gone: number;
  unknown: Record<string, number>;
  unexplained: Record<string, number>;
}

/** A line of `far`: who came to an address that the policy allows only sometimes, and when. */
export interface Arrival {
  address: string;
  port: string;
  /** CLOCK_MONOTONIC, ns. */
  started: bigint;
  arrived: bigint;
}

function emptyRow(): Row {
  return { begun: 0, established: 0, right: 0, wrong: 0, gone: 0, unknown: {}, unexplained: {} };
}

function unknownIn({ unknown, unexplained }: Row): number {
  return sum(unknown) + sum(unexplained);
}

/** Unjudged are those that ended before anybody had read where they were going, or that the policy forbade. */
function cellsOf(row: Row): number[] {
  const { begun, established, right, wrong, gone } = row;
  const unknown = unknownIn(row);
  return [begun, established, right, unknown, wrong, established - right - unknown - wrong, gone];
}

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function add(to: Record<string, number>, more: Record<string, number>): void {
  for (const [key, count] of Object.entries(more)) to[key] = (to[key] ?? 0) + count;
}

export class Report {
  readonly rows: Row[] = KINDS.map(emptyRow);
  readonly #planned: ReadonlySet<number>;
  readonly #changes = new Map<string, PolicyChange[]>();
  readonly #arrivals: Arrival[] = [];
  readonly #refused: Record<string, number> = {};
  #silent = 0;
  #dropped = 0;

  /** @param planned which of the kinds there are to be any of */
  constructor(planned: ReadonlySet<number>) {
    this.#planned = planned;
  }

  /** What a client or the far end has counted: `{ kinds: { 3: { begun: 17, … } } }`. */
  addCounts(json: string): void {
    const { kinds } = JSON.parse(json) as {
      kinds: Record<string, Partial<Record<keyof Row | 'mixed', number>>>;
    };
    for (const [kind, counts] of Object.entries(kinds)) {
      const row = this.rows[Number(kind)]!;
      row.begun += counts.begun ?? 0;
      row.established += counts.established ?? 0;
      row.right += counts.right ?? 0;
      row.wrong += (counts.wrong ?? 0) + (counts.mixed ?? 0);
    }
  }

  /** What a server has found. */
  addFound({ tallies, silent, dropped, refused }: Done): void {
    this.#silent += silent;
    this.#dropped += dropped;
    add(this.#refused, refused);
    for (const [kind, tally] of tallies) {
      const row = this.rows[kind]!;
      row.right += tally.right;
      row.wrong += tally.wrong;
      row.gone += tally.gone;
      add(row.unknown, tally.unknown);
      add(row.unexplained, tally.unexplained);
    }
  }

  addChange(change: PolicyChange): void {
    const known = this.#changes.get(change.address);
    if (known) known.push(change);
    else this.#changes.set(change.address, [change]);
  }

  addArrival(line: string): void {
    const [address, port, started, arrived] = line.split(' ') as [string, string, string, string];
    this.#arrivals.push({ address, port, started: BigInt(started), arrived: BigInt(arrived) });
  }

  /** Arrivals that the policy forbade all the time, from when the client set out. */
  *#forbidden(): Generator<string> {
    for (const { address, port, started, arrived } of this.#arrivals) {
      const changes = this.#changes.get(address) ?? [];
      const before = changes.findLast(({ at }) => BigInt(at) < started);
      const meanwhile = changes.filter(({ at }) => BigInt(at) >= started && BigInt(at) <= arrived);
      if ([before, ...meanwhile].some((change) => change?.allowed)) continue;
      const since = before
        ? `${Number(started - BigInt(before.at)) / 1e6} ms before it set out`
        : 'from the start';
      yield `relayed to ${address} ${port}, forbidden ${since}`;
    }
  }

  /** What is wrong with the run, one line each. */
  problems(): string[] {
    const problems = [...this.#forbidden()];
    for (const [index, { name }] of KINDS.entries()) {
      const row = this.rows[index]!;
      if (!this.#planned.has(index)) continue;
      if (row.right === 0 && unknownIn(row) === 0) problems.push(`${name}: never exercised`);
      if (row.wrong > 0) problems.push(`${name}: ${row.wrong} wrong`);
      for (const [code, count] of Object.entries(row.unexplained))
        problems.push(`${name}: ${count} unknown (${code}) that nothing explains`);
    }
    // The proxies dial from addresses that no client has.
    const loops = this.#refused['ERR_INTERCEPT_LOOP'] ?? 0;
    if (loops > 0) problems.push(`${loops} dials were taken for loops`);
    return problems;
  }

  /** A row for each kind, and what is unknown by cause. */
  print(): void {
    const width = Math.max(...KINDS.map(({ name }) => name.length));
    const line = (name: string, cells: readonly (string | number)[]): void =>
      console.log([name.padEnd(width), ...cells.map((cell) => String(cell).padStart(11))].join(' '));
    line('', ['begun', 'established', 'right', 'unknown', 'wrong', 'unjudged', 'gone before']);
    for (const protocol of ['tcp', 'udp'] as const) {
      const total = emptyRow();
      for (const [index, kind] of KINDS.entries()) {
        if (!this.#planned.has(index) || kind.protocol !== protocol) continue;
        const row = this.rows[index]!;
        // A datagram is neither.
        if (protocol === 'udp') row.established = row.begun;
        line(kind.name, cellsOf(row));
        for (const key of ['begun', 'established', 'right', 'wrong', 'gone'] as const) total[key] += row[key];
        add(total.unknown, row.unknown);
        add(total.unexplained, row.unexplained);
      }
      if (total.begun > 0) line(`all ${protocol}`, cellsOf(total));
      for (const [cause, count] of Object.entries(total.unknown).sort())
        console.log(`  ${String(count).padStart(9)} unknown, ${cause}`);
    }
    const changes = [...this.#changes.values()].flat().length;
    console.log(`\n${changes} changes of the policy, ${this.#arrivals.length} arrivals where it changes`);
    console.log(`dials refused: ${JSON.stringify(this.#refused)}`);
    console.log(`${this.#silent} connections that said nothing, ${this.#dropped} datagrams dropped`);
  }
}
