// npm run bench:scale [-- --connections N --idle N --sequential N --seconds N --only TEXT]
// What one more costs when there are many already: connections that were served before, distinct destinations with lasting
// verdicts, open connections, rules of a policy, threads. The cost of each is to stay what it is with one. Prints Markdown
// tables; a run of everything writes bench/results/scale.json and scale.svg.
//   --sequential: how many connections one after the other, 100,000 if nothing else is said; a million takes a minute or two
//   --idle: the most open connections; a proxy has two descriptors for each, and `ulimit -Hn` may allow fewer
import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { NamePolicy, type RelayServerStats } from 'original-dst';
import { enterNamespace } from './namespace.ts';
import { loads } from './proxy/loads.ts';
import { cpuNanoseconds, maxConnections, residentBytes, wrkWithCpu } from './proxy/measure.ts';
import { startServer } from './proxy/server.ts';
import { buildHosts, on, PROXY_PORT, SERVER, setRules, sh } from './proxy/topology.ts';
import { type Point, record, type Series, table } from './scale/series.ts';

const DESTINATIONS = [1, 100, 1000, 4000, 10_000];
const RULES = [1, 10, 100, 1000, 10_000];
const QUESTIONS = 20_000;
const THREADS = [1, 2];

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '20000' },
    idle: { type: 'string', default: '10000' },
    sequential: { type: 'string', default: '100000' },
    seconds: { type: 'string', default: '2' },
    only: { type: 'string', default: '' },
  },
});
enterNamespace({ tools: ['unshare', 'ip', 'nft', 'curl', 'nginx', 'wrk', 'gnuplot'], descriptors: 100_000 });

const seconds = Number(values.seconds);
// The load has connections of its own beside the idle ones.
const idle = Math.min(Number(values.idle), maxConnections() - 500);
const local = (file: string): string => fileURLToPath(new URL(`./proxy/${file}`, import.meta.url));

async function withProxy<T>(
  run: (pid: number, stats: () => Promise<RelayServerStats>) => Promise<T>,
  threads = 1,
): Promise<T> {
  const child = fork(local('node-counted.js'), [String(PROXY_PORT), String(threads)]);
  const exited = once(child, 'exit');
  await once(child, 'message');
  try {
    return await run(child.pid!, async () => {
      child.send('stats');
      const [stats] = (await once(child, 'message')) as [RelayServerStats];
      return stats;
    });
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}

/** Connections, one request each, to so many destinations in turn. */
function visit(destinations: number, count: number): void {
  const [command, ...args] = on('client', [
    process.execPath,
    local('destinations-client.js'),
    String(destinations),
    String(count),
  ]);
  execFileSync(command!, args, { stdio: 'inherit' });
}

/** Microseconds of CPU that each of the connections costs the proxy. */
function costOfVisits(pid: number, destinations: number, count: number): number {
  const before = cpuNanoseconds(pid);
  visit(destinations, count);
  return (cpuNanoseconds(pid) - before) / count / 1000;
}

/** Each destination is visited before it is measured, so that there is a verdict about it, if it was kept. */
function visitMany(destinations: number): Promise<Point> {
  const count = Math.max(Number(values.connections), destinations);
  return withProxy(async (pid, stats) => {
    // Compilers are warm after as many again.
    visit(destinations, Math.max(2000, destinations));
    const before = await stats();
    const cost = costOfVisits(pid, destinations, count);
    const asked = (await stats()).undecided - before.undecided;
    return { count: destinations, cost, note: `${((100 * asked) / count).toFixed(1)} %` };
  });
}

/** The last tenth, at the least a thousand, of the first 10,000, of the first 100,000 and so on, in one process. */
function visitInSequence(most: number): Promise<Point[]> {
  return withProxy(async (pid) => {
    const points: Point[] = [];
    for (let count = 10_000, done = 0; count <= most; count *= 10) {
      const last = count / 10;
      visit(1, count - last - done);
      const cost = costOfVisits(pid, 1, last);
      const mib = residentBytes(pid) / 2 ** 20;
      points.push({ count, cost, note: `${mib.toFixed(1)} MiB` });
      done = count;
    }
    return points;
  });
}

async function openMany(): Promise<Point[]> {
  const load = loads['scale']!;
  const { values: measured } = await withProxy(async (pid) => {
    await load.warmUp();
    return load.measure(pid, { seconds, idle });
  });
  const rows: [number, number | undefined][] = [
    [1, measured.cpuBeside1],
    [100, measured.cpuBeside100],
    [1000, measured.cpuBeside1000],
    [idle, measured.cpuBesideMost],
  ];
  return rows.map(([count, cpu]) => ({ count, cost: cpu! * 1e6 }));
}

/** Names and prefixes in equal parts; half of the questions are about what there is a rule for. */
function askMany(rules: number): Point {
  const allow = Array.from({ length: rules }, (_, at) =>
    at % 2 === 0 ? `n${at}.example.com` : `10.${at >> 8}.${at & 0xff}.0/24`,
  );
  const policy = new NamePolicy({ allow, deny: [] });
  const ask = (): void => {
    for (let i = 0; i < QUESTIONS; i++) {
      const at = i % (2 * rules);
      policy.test({
        name: `n${at}.example.com`,
        address: `10.${(at >> 8) & 0xff}.${at & 0xff}.7`,
        port: 443,
      });
    }
  };
  ask();
  const before = process.cpuUsage();
  ask();
  const { user, system } = process.cpuUsage(before);
  return { count: rules, cost: (user + system) / QUESTIONS };
}

/** Not bound to a processor: the second thread is to have one. */
function shareWork(threads: number): Promise<Point> {
  const load = { path: '/small', connections: 64, close: true } as const;
  return withProxy(async (pid) => {
    await wrkWithCpu(pid, { ...load, seconds: 1 });
    const { cpu, requests, seconds: took } = await wrkWithCpu(pid, { ...load, seconds });
    const rate = Math.round(requests / took).toLocaleString('en-US');
    return { count: threads, cost: (cpu / requests) * 1e6, note: rate };
  }, threads);
}

async function each<T>(counts: T[], measure: (count: T) => Point | Promise<Point>): Promise<Point[]> {
  const points: Point[] = [];
  for (const count of counts) points.push(await measure(count));
  return points;
}

interface Question extends Omit<Series, 'points'> {
  measure(): Promise<Point[]>;
}

const questions: Question[] = [
  {
    many: 'connections before',
    one: 'connection',
    noted: 'RSS',
    measure: () => visitInSequence(Number(values.sequential)),
  },
  {
    many: 'destinations with a lasting verdict',
    one: 'connection',
    noted: 'asked again',
    measure: () => each(DESTINATIONS, visitMany),
  },
  { many: 'open connections', one: 'keep-alive request', measure: openMany },
  { many: 'rules', one: 'decision of a NamePolicy', measure: () => each(RULES, askMany) },
  {
    many: 'threads',
    one: 'connection',
    noted: 'connections / s',
    measure: () => each(THREADS, shareWork),
  },
];

const directory = mkdtempSync(join(tmpdir(), 'bench-scale-'));
buildHosts();
setRules('redirect');
// AnyIP: the server has all of these addresses. A port that the client uses again for another of them is in TIME_WAIT at
// the proxy, whose own address is the same for all; without offsets the newer timestamp says that the SYN is a new one.
sh('ip netns exec client sysctl -qw net.ipv4.tcp_timestamps=2');
sh(`ip -n server route add local 198.18.0.0/16 dev lo; ip route add 198.18.0.0/16 via ${SERVER}`);
const stopServer = await startServer(directory, []);
try {
  const all: Series[] = [];
  const asked = questions.filter(({ many }) => many.includes(values.only));
  if (idle < Number(values.idle)) console.log(`ulimit -Hn allows for ${idle} open connections.`);
  for (const { measure, ...about } of asked) {
    const series = { ...about, points: await measure() };
    all.push(series);
    console.log(`\n${table(series)}`);
  }
  // From dist/bench; the results stay with the sources.
  const results = fileURLToPath(new URL('../../bench/results', import.meta.url));
  if (asked.length === questions.length) record(results, all, { ...values, idle: String(idle) });
} finally {
  stopServer();
  rmSync(directory, { recursive: true });
}
