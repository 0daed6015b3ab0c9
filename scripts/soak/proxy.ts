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

/** `port`: of the client whose record is asked for. */
export interface Question {
  id: number;
  port?: number;
}

export interface Answer {
  id: number;
  held?: Held;
  record?: ConnectionRecord | undefined;
}

/** So many are remembered: more than the clients that can be waiting for theirs. */
const REMEMBERED = 4096;

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
/** By the client's port, the latest last. */
const records = new Map<number, ConnectionRecord>();
server.on('records', (batch) => {
  recorded += batch.length;
  for (const one of batch) {
    records.delete(one.client.port);
    records.set(one.client.port, one);
  }
  for (const port of records.keys()) {
    if (records.size <= REMEMBERED) break;
    records.delete(port);
  }
});
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

process.on('message', ({ id, port }: Question) => {
  const answer: Answer = port === undefined ? { id, held: held() } : { id, record: records.get(port) };
  process.send!(answer);
});
server.listen(15001);
server.once('listening', () => process.send!('ready'));
