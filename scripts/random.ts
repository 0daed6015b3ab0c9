// Usage: random [--connections N] [--datagrams N] [--seed N]
//
// Is what the package recovers ever wrong? TCP connections and datagrams of all kinds, at random, each of which says where
// it was really going, in network namespaces of their own, while conntrack entries are deleted, rules change, clients reset
// and use their ports again, and the proxies stand still now and then. A tenth of it runs without all that, where every
// `unknown` but those of clients that have gone is a failure too.
//
// The same seed makes the same plans, but not the same timing.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { ensureTools } from './native.ts';
import type { Wrong } from './random/judge.ts';
import { KINDS, LANES, type Lane } from './random/kinds.ts';
import { compile, type Reporting, Server, startClients, startFar } from './random/programs.ts';
import { Report } from './random/report.ts';
import type { FromServer } from './random/server.ts';
import { storm } from './random/storm.ts';
import { makeWorld } from './random/world.ts';
import { summary, type Outcome } from './summary.ts';

const INSIDE = 'ORIGINAL_DST_RANDOM_INSIDE';
/** Connections reset early and entries deleted one by one, in percent. */
const CALM = { early: 10, loss: 0, amidFlush: false };
const STORMY = { early: 35, loss: 12, amidFlush: true };
/** How long what is under way may take to come to its end. */
const SETTLE_MS = 1500;

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '100000' },
    datagrams: { type: 'string', default: '20000' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const totals = { tcp: Number(values.connections), udp: Number(values.datagrams) };
const seed = Number(values.seed);
if (!Object.values(totals).every((total) => total >= 0) || !Number.isInteger(seed))
  throw new Error('usage: random [--connections N] [--datagrams N] [--seed N]');

if (process.env[INSIDE] !== '1') {
  ensureTools('cc', 'nft', 'ip', 'unshare');
  // With a process namespace: whatever ends this program ends all that it has started.
  const unshare = 'exec unshare -Urnmpf --kill-child --mount-proc --propagation private "$@"';
  const limit = 'ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"';
  const { status } = spawnSync('sh', ['-c', `${limit}; ${unshare}`, 'sh', ...process.argv], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  });
  process.exit(status ?? 1);
}

const report = new Report(KINDS.map(({ protocol }) => totals[protocol] > 0));
const clients = new Map<number, Reporting>();
const histories: Promise<void>[] = [];
let settled = { silent: 0, dropped: 0 };

/** How many wrong ones of a kind are told in full: the first show what they have in common. */
const MOST_TOLD = 5;
const told = new Map<number, number>();

async function explain(wrong: Wrong): Promise<void> {
  told.set(wrong.kind, (told.get(wrong.kind) ?? 0) + 1);
  if (told.get(wrong.kind)! > MOST_TOLD) return;
  const { kind, lane, sourcePort, sequence, flags, truth, found } = wrong;
  const client = LANES[lane]?.protocol === 'tcp' ? clients.get(lane) : undefined;
  const history = client?.said('history') ?? '[]';
  client?.write(`${sourcePort}\n`);
  const lines = JSON.parse(await history) as string[];
  console.log(`WRONG (seed ${seed}) ${KINDS[kind]?.name}: ${truth} was taken for ${found}; flags ${flags}`);
  console.log(`  ${LANES[lane]?.name}, sequence ${sequence}, source port ${sourcePort}`);
  for (const line of lines) console.log(`    ${line}`);
}

function onLine(word: string, rest: string): void {
  if (word === 'wrong') histories.push(explain(JSON.parse(rest) as Wrong));
  else if (word === 'changing') report.addArrival(rest);
}

const finished: ((message: { silent: number; dropped: number }) => void)[] = [];

function onMessage(message: FromServer): void {
  if ('wrong' in message) histories.push(explain(message.wrong));
  else if ('change' in message) report.addChange(message.change);
  else if ('done' in message) {
    report.addTallies(message.done.tallies);
    finished.shift()!(message.done);
  }
}

function countOf(lane: Lane, part: number): number {
  const shares = LANES.filter(({ protocol }) => protocol === lane.protocol).map(({ share }) => share);
  return Math.ceil((totals[lane.protocol] * part * lane.share) / shares.reduce((a, b) => a + b));
}

/** All lanes at once, until each has made its part of the connections. */
async function phase(directory: string, part: number, manners: typeof CALM): Promise<void> {
  const before = [...clients.values()];
  await Promise.all(histories);
  await Promise.all(before.map((one) => one.end()));
  clients.clear();
  const done = LANES.map(async (lane, number) => {
    const plan = { ...manners, count: countOf(lane, part), seed: seed * 100 + number };
    if (plan.count === 0) return;
    const one = startClients(directory, lane, plan, onLine);
    clients.set(number, one);
    report.addCounts(await one.said('done'));
  });
  await Promise.all(done);
  await delay(SETTLE_MS);
}

const directory = mkdtempSync(join(tmpdir(), 'original-dst-'));
try {
  const begin = performance.now();
  console.log(`seed ${seed}: ${totals.tcp} connections, ${totals.udp} datagrams, ${KINDS.length} kinds`);
  compile(directory);
  makeWorld();
  const far = await startFar(directory, onLine);
  const servers = [
    await Server.start('gateway', seed, onMessage),
    await Server.start('changing', seed + 1, onMessage),
  ];
  await phase(directory, 0.1, CALM);
  const end = new AbortController();
  const weather = storm(directory, servers, seed, end.signal);
  await phase(directory, 0.9, STORMY);
  end.abort();
  const done = await weather;
  await delay(SETTLE_MS);
  await Promise.all(histories);
  for (const server of servers) {
    const told = new Promise<typeof settled>((resolve) => finished.push(resolve));
    server.tell({ finish: true });
    const { silent, dropped } = await told;
    settled = { silent: settled.silent + silent, dropped: settled.dropped + dropped };
    await server.end();
  }
  const farDone = far.said('done');
  const farEnded = far.end();
  report.addCounts(await farDone);
  await farEnded;
  await Promise.all([...clients.values()].map((one) => one.end()));

  report.judgePolicy();
  console.log('');
  const problems = report.print();
  const seconds = (performance.now() - begin) / 1000;
  console.log(
    `${done.flushes} flushes, ${done.changes} changes of rules, ${done.stops} standstills; ` +
      `${settled.silent} connections that said nothing, ${settled.dropped} datagrams dropped; ${seconds.toFixed(0)} s`,
  );
  const outcome: Outcome = { name: `random, seed ${seed}`, problems };
  summary([outcome]);
} finally {
  rmSync(directory, { recursive: true });
}
