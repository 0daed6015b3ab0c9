// What a run has shown: a table of the kinds, the causes of what is unknown, and what is wrong.
import type { Tally } from './judge.ts';
import { CHANGING, KINDS } from './kinds.ts';
import type { PolicyChange } from './server.ts';

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

function sum(counts: Record<string, number>): number {
  return Object.values(counts).reduce((total, count) => total + count, 0);
}

function add(to: Record<string, number>, more: Record<string, number>): void {
  for (const [key, count] of Object.entries(more)) to[key] = (to[key] ?? 0) + count;
}

export class Report {
  readonly rows: Row[] = KINDS.map(emptyRow);
  readonly problems: string[] = [];
  readonly #planned: readonly boolean[];
  readonly #changes = new Map<string, PolicyChange[]>();
  readonly #arrivals: Arrival[] = [];

  /** @param planned which of the kinds there are to be any of */
  constructor(planned: readonly boolean[]) {
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

  addTallies(tallies: readonly [number, Tally][]): void {
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

  /** An arrival is wrong if the policy forbade it all the time, from when the client set out. */
  judgePolicy(): void {
    for (const { address, port, started, arrived } of this.#arrivals) {
      const changes = this.#changes.get(address) ?? [];
      const before = changes.findLast(({ at }) => BigInt(at) < started);
      const meanwhile = changes.filter(({ at }) => BigInt(at) >= started && BigInt(at) <= arrived);
      if ([before, ...meanwhile].some((change) => change?.allowed)) continue;
      const since = before
        ? `${Number(started - BigInt(before.at)) / 1e6} ms before it set out`
        : 'from the start';
      this.problems.push(`relayed to ${address} ${port}, forbidden ${since}`);
    }
  }

  /** Prints it all. Returns what is wrong with the run, one line each. */
  print(): string[] {
    const width = Math.max(...KINDS.map(({ name }) => name.length));
    const line = (name: string, cells: readonly (string | number)[]): void =>
      console.log([name.padEnd(width), ...cells.map((cell) => String(cell).padStart(11))].join(' '));
    line('', ['begun', 'established', 'right', 'unknown', 'wrong', 'unjudged', 'gone before']);
    const causes: Record<string, number> = {};
    const total = emptyRow();
    for (const [index, { name, protocol }] of KINDS.entries()) {
      if (!this.#planned[index]) continue;
      const row = this.rows[index]!;
      const unknown = sum(row.unknown) + sum(row.unexplained);
      const all = protocol === 'tcp' ? row.established : row.begun;
      line(name, [
        row.begun,
        all,
        row.right,
        unknown,
        row.wrong,
        all - row.right - unknown - row.wrong,
        row.gone,
      ]);
      for (const key of ['begun', 'established', 'right', 'wrong', 'gone'] as const) total[key] += row[key];
      add(causes, row.unknown);
      if (row.right === 0 && unknown === 0) this.problems.push(`${name}: never exercised`);
      if (row.wrong > 0) this.problems.push(`${name}: ${row.wrong} wrong`);
      for (const [code, count] of Object.entries(row.unexplained))
        this.problems.push(`${name}: ${count} unknown (${code}) that nothing explains`);
    }
    console.log('\nunknown, because');
    for (const [cause, count] of Object.entries(causes).sort())
      console.log(`  ${String(count).padStart(9)}  ${cause}`);
    console.log(
      `\npolicy: ${[...this.#changes.values()].flat().length} changes, ${this.#arrivals.length} arrivals at addresses ${CHANGING.from} to ${CHANGING.to}`,
    );
    return this.problems;
  }
}
