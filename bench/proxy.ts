// npm run bench:proxy [-- --seconds N --rounds N --idle N --only TEXT --skip TEXT]
// Transparent proxies side by side: the same hosts, the same server, the same load, rounds interleaved in one run, so
// that a noisy machine is noisy for all. Prints ratios; writes bench/results/proxy.json and proxy.svg.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { enterNamespace } from './namespace.ts';
import { maxConnections, pins, residentBytes, withCpu, wrk } from './proxy/measure.ts';
import { peers, start, type Peer } from './proxy/peers.ts';
import { printReport, writeReport, type Sample } from './proxy/report.ts';
import { buildHosts, on, SERVER, setRules, sh, type Mode } from './proxy/topology.ts';

const BIG_FILE_BYTES = 64 * 2 ** 20;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '3' },
    idle: { type: 'string', default: '10000' },
    only: { type: 'string', default: '' },
    skip: { type: 'string', default: 'no peer' },
  },
});

async function startServer(directory: string, pin: string[]): Promise<() => void> {
  writeFileSync(join(directory, 'big'), '');
  truncateSync(join(directory, 'big'), BIG_FILE_BYTES);
  writeFileSync(
    join(directory, 'nginx.conf'),
    `daemon off; user root; pid ${directory}/nginx.pid; error_log ${directory}/error.log;
worker_processes 1; worker_rlimit_nofile 90000;
events { worker_connections 40000; }
http {
  access_log off; sendfile on; tcp_nodelay on;
  keepalive_requests 100000000; client_header_timeout 900s; keepalive_timeout 900s;
  server {
    listen 80 backlog=16384;
    location = /small { return 200 "ok"; }
    location / { root ${directory}; }
  }
}
`,
  );
  const [command, ...args] = [...pin, ...on('server', ['nginx', '-c', join(directory, 'nginx.conf')])];
  const child = spawn(command!, args, { stdio: 'inherit' });
  await delay(500);
  return () => child.kill('SIGTERM');
}

/** Opens idle connections through the proxy, runs `during`, closes them. */
async function withIdle<T>(count: number, during: () => Promise<T>): Promise<T> {
  const script = fileURLToPath(new URL('./proxy/idle-client.js', import.meta.url));
  const [command, ...args] = on('client', [process.execPath, script, SERVER, String(count)]);
  const child = spawn(command!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [unknown];
  if (String(line).trim() !== 'open') throw new Error(`could not hold ${count} connections`);
  try {
    return await during();
  } finally {
    child.stdin.end();
    await once(child, 'exit');
  }
}

async function measure(peer: Peer, mode: Mode, directory: string): Promise<Sample> {
  const { proxy: proxyPin, others } = pins();
  const seconds = Number(values.seconds);
  setRules(mode);
  const proxy = await start(peer, mode, directory, proxyPin);
  try {
    const load = async (path: string, connections: number, close = false) =>
      withCpu(proxy.pid, async () => wrk(others, { path, connections, seconds, close }));
    await wrk(others, { path: '/small', connections: 16, seconds: 1 }); // warm up: JIT, caches

    const setup = await load('/small', 64, true);
    const keepAlive = await load('/small', 64);
    const one = await load('/big', 1);
    const many = await load('/big', 64);

    const scale: Sample['scale'] = [];
    let bytesPerIdle = Number.NaN;
    const most = Math.min(Number(values.idle), maxConnections() - 500); // the load has connections of its own
    for (const count of [1, 100, 1000, most]) {
      const before = residentBytes(proxy.pid);
      const held = await withIdle(count, async () => {
        await delay(200);
        const grown = residentBytes(proxy.pid) - before;
        return { grown, ...(await load('/small', 64)) };
      });
      bytesPerIdle = held.grown / count;
      scale.push({ idle: count, cpuPerRequest: held.cpu / held.requests, p99: held.p99 });
    }

    const gib = (bytes: number): number => bytes / 2 ** 30;
    return {
      peer: peer.name,
      mode,
      connectionsPerSecond: setup.requests / setup.seconds,
      cpuPerConnection: setup.cpu / setup.requests,
      requestsPerSecond: keepAlive.requests / keepAlive.seconds,
      cpuPerRequest: keepAlive.cpu / keepAlive.requests,
      p50: keepAlive.p50,
      p99: keepAlive.p99,
      gibPerSecond1: gib(one.bytes) / one.seconds,
      gibPerSecond64: gib(many.bytes) / many.seconds,
      cpuPerGib: (one.cpu + many.cpu) / gib(one.bytes + many.bytes),
      bytesPerIdle,
      errors: setup.errors + keepAlive.errors + one.errors + many.errors,
      scale,
    };
  } finally {
    await proxy.stop();
  }
}

// A proxy has two descriptors for each of 10,000 connections, and some to spare.
enterNamespace({
  tools: ['unshare', 'ip', 'nft', 'nginx', 'wrk', 'gnuplot', ...peers.flatMap((peer) => peer.tool ?? [])],
  descriptors: 100_000,
});
const directory = mkdtempSync(join(tmpdir(), 'bench-proxy-'));
buildHosts();
const stopServer = await startServer(directory, pins().others);
const samples: Sample[] = [];
try {
  for (let round = 1; round <= Number(values.rounds); round++) {
    for (const mode of ['redirect', 'tproxy'] as const) {
      for (const peer of peers) {
        if (!peer.modes.includes(mode) || !peer.name.includes(values.only) || peer.name.includes(values.skip))
          continue;
        process.stderr.write(`round ${round}: ${mode}, ${peer.name}\n`);
        samples.push(await measure(peer, mode, directory));
      }
    }
  }
} finally {
  stopServer();
  sh(`rm -f ${join(directory, 'big')}`);
  rmSync(directory, { recursive: true });
}
const results = fileURLToPath(new URL('../../bench/results', import.meta.url));
mkdirSync(results, { recursive: true });
printReport(samples);
writeReport(samples, results);
