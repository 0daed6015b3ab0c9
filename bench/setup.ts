// npm run bench:setup, as root: what it costs to set a connection up, by way of interception, beside none at all.
//
// Each way has a network namespace of its own, as one with conntrack slows all that is in it. A server in C accepts and
// closes; the CPU time of both ends is counted, which other programs of the machine change less than the time of day. Rounds
// are interleaved, and the median of the rounds' ratios is what counts.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cgroupMount } from '../lib/ebpf/cgroup.ts';
import { median } from './median.ts';
import { enterNamespace } from './namespace.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 21);
const CONNECTIONS = Number(process.env['CONNECTIONS'] ?? 4000);
const PORT = 15001;
const ADDRESS = '198.51.100.7';
const REDIRECT = `table ip bench {
  chain c {
    type nat hook output priority -100
    ip daddr 198.51.100.0/24 tcp dport 80 redirect to :${PORT}
  }
}`;

interface Way {
  name: string;
  /** Where the client dials. */
  port: number;
  address: string;
  rules?: string;
  captured?: boolean;
}

const WAYS: Way[] = [
  { name: 'none', address: '127.0.0.1', port: PORT },
  { name: 'eBPF capture', address: ADDRESS, port: 80, captured: true },
  { name: 'REDIRECT', address: ADDRESS, port: 80, rules: REDIRECT },
];

enterNamespace({ tools: ['unshare', 'ip', 'nft', 'nsenter', 'taskset'], root: true });

const directory = mkdtempSync(join(tmpdir(), 'original-dst-bench-'));
const bare = join(directory, 'bare');
const cgroup = `original-dst-bench-${process.pid}`;
const cgroupPath = join(cgroupMount(), cgroup);
const children: ChildProcess[] = [];

/** Starts a program in the way's namespace, on the CPU where all of them run, and waits for its first line. */
async function start(name: string, command: string[]): Promise<ChildProcess> {
  const args = [`--net=/run/netns/${name}`, 'taskset', '-c', '0', ...command];
  const child = spawn('nsenter', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout, 'data');
  return child;
}

/** /proc/PID/schedstat: nanoseconds on a CPU. */
function cpu(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]);
}

async function prepare({ rules, captured }: Way, index: number): Promise<ChildProcess> {
  const name = `way${index}`;
  execFileSync('sh', [
    '-ec',
    `ip netns add ${name}; ip -n ${name} link set lo up
     ip -n ${name} addr add 192.0.2.1/32 dev lo; ip -n ${name} route add default dev lo src 192.0.2.1
     nsenter --net=/run/netns/${name} sysctl -qw net.ipv4.ip_local_port_range='1024 65000'`,
  ]);
  if (rules) execFileSync('nsenter', [`--net=/run/netns/${name}`, 'nft', '-f', '-'], { input: rules });
  const script = fileURLToPath(new URL('capture-alone.js', import.meta.url));
  if (captured) await start(name, [process.execPath, script, cgroup, String(PORT)]);
  return start(name, [bare, 'accept', String(PORT)]);
}

/** Nanoseconds of CPU a connection, of both ends. */
function measure({ address, port }: Way, index: number, server: ChildProcess): number {
  const before = cpu(server.pid!);
  const client = execFileSync('sh', [
    '-ec',
    `echo $$ >${cgroupPath}/cgroup.procs
     exec nsenter --net=/run/netns/way${index} taskset -c 0 ${bare} cpu ${address} ${port} ${CONNECTIONS}`,
  ]);
  return Number(client) + (cpu(server.pid!) - before) / CONNECTIONS;
}

try {
  // From dist/bench; the C source stays where it is.
  execFileSync('cc', ['-O2', '-o', bare, fileURLToPath(new URL('../../bench/bare.c', import.meta.url))]);
  execFileSync('sh', ['-ec', 'mount -t tmpfs tmpfs /run; mkdir /run/netns']);
  mkdirSync(cgroupPath);
  const servers: ChildProcess[] = [];
  for (const [index, way] of WAYS.entries()) servers.push(await prepare(way, index));
  const costs = WAYS.map((): number[] => []);
  for (let round = 0; round <= ROUNDS; round++) {
    for (let turn = 0; turn < WAYS.length; turn++) {
      // Another begins each time, so that nobody is always the first.
      const index = (round + turn) % WAYS.length;
      const cost = measure(WAYS[index]!, index, servers[index]!);
      if (round > 0) costs[index]!.push(cost);
    }
  }
  console.log(`${ROUNDS} interleaved rounds of ${CONNECTIONS} connections, CPU time of client and server`);
  for (const [index, { name }] of WAYS.entries()) {
    const ratios = costs[index]!.map((cost, round) => costs[0]![round]! / cost);
    const sorted = [...ratios].sort((a, b) => a - b);
    const spread = `${sorted[sorted.length >> 2]!.toFixed(2)}–${sorted[(3 * sorted.length) >> 2]!.toFixed(2)}`;
    console.log(
      `  ${name.padEnd(28)}${(median(costs[index]!) / 1000).toFixed(2).padStart(7)} µs  rate ${median(ratios).toFixed(3)} × (quartiles ${spread})`,
    );
  }
} finally {
  for (const child of children) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
  // Not before the last of them is gone.
  for (let tries = 0; tries < 50; tries++) {
    try {
      rmdirSync(cgroupPath);
      break;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
