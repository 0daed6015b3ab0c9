// The program under test: all listeners of one gateway in one process. Started by fork(), told what to do by messages.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import {
  createDatagramSocket,
  createRelayServer,
  createServer,
  originalDst,
  type OriginalDst,
  type RelayDecision,
  type RelayServer,
} from '../../lib/index.ts';
import { Judge, readToken, TOKEN_SIZE, type Tally, type Wrong } from './judge.ts';
import { CHANGING, FORBIDDEN, interceptedPorts, LISTENERS, PORTS, type Listener } from './kinds.ts';
import { Random } from './random-numbers.ts';
import { MARK } from './world.ts';

/** A change of what the relay servers' policy says about an address. */
export interface PolicyChange {
  address: string;
  allowed: boolean;
  /** CLOCK_MONOTONIC, ns: from then on, for certain. */
  at: string;
}

export interface Done {
  tallies: [number, Tally][];
  /** Connections whose client has not said where it was going. */
  silent: number;
  /** Datagrams. */
  dropped: number;
  /** Dials that the relay servers have refused, by the error's code. */
  refused: Record<string, number>;
}

export type FromServer =
  { ready: true } | { settled: true } | { wrong: Wrong } | { change: PolicyChange } | { done: Done };

export interface ToServer {
  /** Whether the event loop is held up now and then. */
  pauses?: boolean;
  settle?: true;
  finish?: true;
}

/** How long a connection may say nothing. */
const PATIENCE_MS = 5000;
/** Many turns of the event loop, in each of which waiting datagrams are read. */
const SETTLE_MS = 30;
/** Reports are of use as long as they can be read. */
const MOST_REPORTS = 200;

const [gateway, seed] = process.argv.slice(2) as [keyof typeof LISTENERS, string];
const random = new Random(Number(seed));
let reports = 0;
let silent = 0;
let pauses = false;

function tell(message: FromServer): void {
  // Whoever started this may be gone: 'disconnect' then ends it, and what is said in the meantime is no error.
  process.send!(message, undefined, undefined, () => {});
}

const judge = new Judge((wrong) => {
  if (reports++ < MOST_REPORTS) tell({ wrong });
});

/** Reads the token, judges, sends it back. */
function serve(socket: Socket): void {
  const found = originalDst(socket)!;
  const accepted = { gone: socket.remoteAddress === undefined, at: process.hrtime.bigint() };
  let bytes = Buffer.alloc(0);
  let judged = false;
  socket.on('data', (data) => {
    bytes = bytes.length === 0 ? data : Buffer.concat([bytes, data]);
    if (judged || bytes.length < TOKEN_SIZE) return;
    judged = true;
    judge.judge(readToken(bytes), found, accepted);
    socket.end(bytes);
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    if (!judged) silent++;
  });
  socket.setTimeout(PATIENCE_MS, () => socket.destroy());
}

/** What the policy says of addresses whose last byte is in CHANGING. */
const changing = new Map<string, boolean>();
/** The last of them that was allowed to somebody: a promise of that may be under way. */
let recent: string | undefined;

function isAllowed(address: string): boolean {
  const last = address.includes(':')
    ? parseInt(address.split(':').at(-1)!, 16)
    : Number(address.split('.').at(-1));
  if (last >= FORBIDDEN.from && last <= FORBIDDEN.to) return false;
  return last < CHANGING.from || last > CHANGING.to || (changing.get(address) ?? false);
}

function decide(destination: OriginalDst): RelayDecision | Promise<RelayDecision> {
  // What cannot be relayed is judged here, as createServer's connections are.
  if (destination.kind === 'unknown' || destination.kind === 'direct') return 'emit';
  const ttl = 20 + random.below(2000);
  if (!isAllowed(destination.address)) return random.below(2) === 0 ? 'reset' : { action: 'reset', ttl };
  if (changing.has(destination.address)) recent = destination.address;
  const choice = random.below(10);
  if (choice === 0) return 'emit';
  if (choice < 3) return 'relay';
  if (choice < 5) return delay(random.below(30), { action: 'relay', ttl } as const);
  return { action: 'relay', ttl };
}

/** Takes verdicts back at random; of CHANGING addresses whenever what the policy says of them changes. */
async function changePolicy(server: RelayServer): Promise<never> {
  for (;;) {
    await delay(5 + random.below(200));
    if (random.below(3) === 0) {
      server.revoke();
      continue;
    }
    const last = CHANGING.from + random.below(CHANGING.to - CHANGING.from + 1);
    const any = random.pick([`198.18.0.${last}`, `2001:db8:18::${last.toString(16)}`]);
    const address = recent !== undefined && random.below(2) === 0 ? recent : any;
    const allowed = !(changing.get(address) ?? false);
    const now = (): string => String(process.hrtime.bigint());
    let at = now();
    changing.set(address, allowed);
    if (random.below(2) === 0) server.revoke();
    else for (const port of RELAYED_PORTS) server.revoke({ address, port });
    // Denied: from when revoke() has returned. Allowed: from before.
    if (!allowed) at = now();
    tell({ change: { address, allowed, at } });
  }
}

const RELAYED_PORTS = interceptedPorts(PORTS.relay);

async function listen(listener: Listener): Promise<void> {
  const { port, host, make, transparent = false } = listener;
  if (make === 'createDatagramSocket') {
    const socket = createDatagramSocket({ address: host, port, transparent, receiveBufferSize: 1 << 22 });
    socket.on('message', (data, info) => {
      const found = info.kind === 'unknown' ? info : { kind: info.kind, ...info.destination };
      judge.judge(readToken(data), found);
      if (random.below(4) === 0) socket.reply(data, info);
    });
    sockets.push(socket);
    return;
  }
  if (make === 'createServer') {
    const server = createServer({ transparent, allowHalfOpen: true }, serve);
    server.listen({ port, host, backlog: 4096 });
    await once(server, 'listening');
    return;
  }
  const server = createRelayServer({ decide, transparent, mark: MARK, idleTimeout: PATIENCE_MS });
  server.on('connection', serve);
  server.on('error', (error) => {
    throw error;
  });
  server.listen(port, host);
  await once(server, 'listening');
  relayServers.push(server);
  if (port === PORTS.relay) void changePolicy(server);
}

const sockets: ReturnType<typeof createDatagramSocket>[] = [];
const relayServers: RelayServer[] = [];

async function holdUp(): Promise<never> {
  for (;;) {
    await delay(20 + random.below(200));
    if (!pauses) continue;
    const until = performance.now() + 5 + random.below(45);
    while (performance.now() < until);
  }
}

process.on('message', (message: ToServer) => {
  pauses = message.pauses ?? pauses;
  if (message.settle) setTimeout(() => tell({ settled: true }), SETTLE_MS);
  if (!message.finish) return;
  let dropped = 0;
  for (const socket of sockets) dropped += socket.stats.dropped;
  const refused: Record<string, number> = {};
  for (const { stats } of relayServers) {
    for (const [code, count] of Object.entries(stats.refused)) refused[code] = (refused[code] ?? 0) + count;
  }
  tell({ done: { tallies: [...judge.tallies], silent, dropped, refused } });
});
process.on('disconnect', () => process.exit());

for (const listener of LISTENERS[gateway]) await listen(listener);
void holdUp();
tell({ ready: true });
