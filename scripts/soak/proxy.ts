// The relay server that is soaked, in a process of its own; answers over IPC what it has and holds.
import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { createRelayServer } from '../../lib/index.ts';

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
server.on('records', (records) => (recorded += records.length));
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

process.on('message', () => process.send!(held()));
server.listen(15001);
server.once('listening', () => process.send!(held()));
