// Usage: random [--connections N] [--datagrams N] [--seed N] [--only TEXT]
//
// Is what the package recovers ever wrong? TCP connections and datagrams of all kinds, at random, each of which says where
// it was really going, in network namespaces of their own, while conntrack entries are deleted, rules change, clients reset
// and use their ports again, and the proxies stand still now and then. A tenth of it runs without all that, where every
// `unknown` but those of clients that have gone is a failure too.
//
// `--only` leaves all lanes of kinds.ts out but those whose name has the text in it. The same seed makes the same plans,
// but not the same timing.
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
import { changes, makeWorld } from './random/world.ts';
import { summary } from './summary.ts';

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
    only: { type: 'string', default: '' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
});
const totals = { tcp: Number(values.connections), udp: Number(values.datagrams) };
const seed = Number(values.seed);
if (!Object.values(totals).every((total) => total >= 0) || !Number.isInteger(seed))
  throw new Error('usage: random [--connections N] [--datagrams N] [--seed N] [--only TEXT]');

if (process.env[INSIDE] !== '1') {
  ensureTools('cc', 'nft', 'ip', 'unshare', 'setpriv');
  // With a process namespace, and not to outlive this process: whatever ends it ends all that it has started.
  const unshare =
    'exec setpriv --pdeathsig KILL unshare -Urnmpf --kill-child --mount-proc --propagation private "$@"';
  const limit = 'ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"';
  const { status } = spawnSync('sh', ['-c', `${limit}; ${unshare}`, 'sh', ...process.argv], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  });
  process.exit(status ?? 1);
}

const lanes = LANES.filter(({ name, protocol }) => totals[protocol] > 0 && name.includes(values.only));
const planned = new Set(lanes.flatMap(({ routes }) => routes.map(({ kind }) => kind)));
const report = new Report(planned);
const clients = new Map<number, Reporting>();
const histories: Promise<void>[] = [];

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
  if (LANES[lane]?.proxy === 'changing') console.log(`  rules: ${changes.slice(-12).join(', ')}`);
}

function onLine(word: string, rest: string): void {
  if (word === 'wrong') histories.push(explain(JSON.parse(rest) as Wrong));
  else if (word === 'changing') report.addArrival(rest);
}

function onMessage(message: FromServer): void {
  if ('wrong' in message) histories.push(explain(message.wrong));
  else if ('change' in message) report.addChange(message.change);
}

function countOf(lane: Lane, part: number): number {
  const shares = lanes.filter(({ protocol }) => protocol === lane.protocol).map(({ share }) => share);
  return Math.ceil((totals[lane.protocol] * part * lane.share) / shares.reduce((a, b) => a + b));
}

/** All lanes at once, until each has made its part of the connections. */
async function phase(directory: string, part: number, manners: typeof CALM): Promise<void> {
  const before = [...clients.values()];
  await Promise.all(histories);
  await Promise.all(before.map((one) => one.end()));
  clients.clear();
  const done = lanes.map(async (lane) => {
    const number = LANES.indexOf(lane);
    const plan = {
      ...manners,
      count: countOf(lane, part),
      seed: seed * 1000 + Math.round(part * 100) + number,
    };
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
  const servers = {
    gateway: await Server.start('gateway', seed, onMessage),
    changing: await Server.start('changing', seed + 1, onMessage),
  };
  await phase(directory, 0.1, CALM);
  const end = new AbortController();
  const weather = storm(directory, servers, seed, end.signal);
  await phase(directory, 0.9, STORMY);
  end.abort();
  const done = await weather;
  await delay(SETTLE_MS);
  await Promise.all(histories);
  for (const server of Object.values(servers)) report.addFound(await server.end());
  const farDone = far.said('done');
  const farEnded = far.end();
  report.addCounts(await farDone);
  await farEnded;
  await Promise.all([...clients.values()].map((one) => one.end()));

  console.log('');
  report.print();
  const seconds = ((performance.now() - begin) / 1000).toFixed(0);
  console.log(
    `${done.flushes} flushes, ${done.changes} changes of rules, ${done.stops} standstills; ${seconds} s`,
  );
  summary([{ name: `random, seed ${seed}`, problems: report.problems() }]);
} finally {
  rmSync(directory, { recursive: true });
}
