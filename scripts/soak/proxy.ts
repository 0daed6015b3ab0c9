// The relay server that is soaked, in a process of its own; answers over IPC what it has and holds, and what it has
// recorded of a client.
import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { type ConnectionRecord, createRelayServer } from '../../lib/index.ts';

/** What the proxy says of itself. */
export interface Held {
  descriptors: number;
  /** Of the pipes for splice(2), as many as were needed at a time. */
  pipes: number;
  /** Bytes. */
  rss: number;
  heap: number;
  open: number;
  accepted: number;
  recorded: number;
  recordsDropped: number;
  refused: Record<string, number>;
}

/** A client whose record is asked for. */
export interface Asked {
  address: string;
  port: number;
  began: number;
  ended: number;
}

export interface Question {
  id: number;
  client?: Asked;
}

export interface Answer {
  id: number;
  held?: Held;
  record?: ConnectionRecord | undefined;
}

/** So many are remembered: more than come while somebody waits for his. */
const REMEMBERED = 4096;
/** By how much a record may seem to begin too early or too late: less than a client rests between two visits. */
const CLOCKS_MS = 10;

const server = createRelayServer({
  mark: 7,
  threads: 2,
  inspect: { timeout: 100 },
  connectTimeout: 500,
  idleTimeout: 3000,
  halfCloseTimeout: 2000,
  decisionTimeout: 1000,
  maxConnections: 400,
  maxPending: 200,
  maxPerClient: 300,
  maxRatePerClient: 5000,
  // Every way that a decision can go.
  decide: async (destination, __, first) => {
    const chance = Math.random();
    if (chance < 0.02) await delay(50);
    if (chance > 0.999) await delay(2000);
    // conntrack's answer is not taken for certain where a socket has had segments that it could not use, as on a machine that
    // is late with everything. Who is refused for that says nothing about what is soaked here.
    if (destination.kind === 'unknown')
      return { action: 'relay', to: { address: '198.51.100.7', port: 7000 } };
    if (first?.protocol === 'http' && chance > 0.5) return { action: 'relay', ttl: 200 };
    return 'relay';
  },
});

let recorded = 0;
const records: ConnectionRecord[] = [];
server.on('records', (batch) => {
  recorded += batch.length;
  records.push(...batch);
  if (records.length > 2 * REMEMBERED) records.splice(0, records.length - REMEMBERED);
});

/** Accepted while the client was there. */
function recordOf({ address, port, began, ended }: Asked): ConnectionRecord | undefined {
  return records.find(
    ({ client, time }) =>
      client.port === port &&
      client.address === address &&
      time >= began - CLOCKS_MS &&
      time <= ended + CLOCKS_MS,
  );
}

server.on('error', () => {});

function held(): Held {
  globalThis.gc?.();
  const { rss, heapUsed } = process.memoryUsage();
  const { open, accepted, recordsDropped, refused } = server.stats;
  const all = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // the directory's own
    }
  });
  const pipes = all.filter((target) => target.startsWith('pipe:')).length;
  return {
    descriptors: all.length - pipes,
    pipes,
    rss,
    heap: heapUsed,
    open,
    accepted,
    recorded,
    recordsDropped,
    refused,
  };
}

process.on('message', ({ id, client }: Question) => {
  const answer: Answer = client ? { id, record: recordOf(client) } : { id, held: held() };
  process.send!(answer);
});
server.listen(15001);
server.once('listening', () => process.send!('ready'));
