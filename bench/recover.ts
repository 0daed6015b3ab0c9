// npm run bench:recover: what recovery costs, beside the bare system calls in C, in the same run.
// Rounds are interleaved and medians compared, because a shared machine is slow now and fast then.
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getOriginalDst, recoverOriginalDst } from '../lib/index.ts';
import { socketFd } from '../lib/node/socket-fd.ts';
import { median } from './median.ts';
import { enterNamespace } from './namespace.ts';
import { cpuNanoseconds } from './proxy/measure.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 11);
const CALLS = 20_000;
const SOCKETS = 500;
const CONNECTIONS = 2000;
/** Rounds of connections that do not count: the compiler is at work. */
const WARM = 4;
const DESTINATION = '198.51.100.7';
const DESTINATION6 = '2001:db8:2::7';

enterNamespace({ tools: ['unshare', 'ip', 'nft'] });

const directory = mkdtempSync(join(tmpdir(), 'original-dst-bench-'));
const bare = join(directory, 'bare');
const children: ChildProcess[] = [];

/** Nanoseconds of CPU: the time of day also counts what others did meanwhile. */
function perCall(count: number, call: () => void): number {
  const begin = process.cpuUsage();
  for (let i = 0; i < count; i++) call();
  const { user, system } = process.cpuUsage(begin);
  return ((user + system) * 1000) / count;
}

function row(name: string, value: string, ratio?: number, aim?: string): void {
  const against = ratio === undefined ? '' : `${ratio.toFixed(2)} ×`;
  console.log(`  ${name.padEnd(58)}${value.padStart(12)}${against.padStart(9)}  ${aim ?? ''}`);
}

/** The destination port of the next measurement; each has a rule of its own. */
let nextPort = 1001;

function redirect(port: number, to: number): void {
  const rules = `add table inet bench
    add chain inet bench output { type nat hook output priority -100; }
    add rule inet bench output ip daddr 198.51.100.0/24 tcp dport ${port} redirect to :${to}
    add rule inet bench output ip6 daddr 2001:db8:2::/64 tcp dport ${port} redirect to :${to}`;
  execFileSync('nft', ['-f', '-'], { input: rules });
}

async function main(): Promise<void> {
  execFileSync('sh', [
    '-ec',
    `ip link set lo up
     ip addr add 192.0.2.1/32 dev lo && ip route add default dev lo src 192.0.2.1
     ip addr add 2001:db8:1::1/128 dev lo nodad && ip -6 route add default dev lo src 2001:db8:1::1`,
  ]);
  console.log(
    `${ROUNDS} interleaved rounds, medians, CPU time where a call is timed; Node ${process.version}`,
  );
  await calls('0.0.0.0', DESTINATION, 'IPv4, AF_INET listener');
  await calls('::', DESTINATION, 'IPv4, dual-stack listener');
  await calls('::', DESTINATION6, 'IPv6');
  await accepts();
}

async function calls(host: string, destination: string, name: string): Promise<void> {
  const server = createServer({ pauseOnConnect: true }).listen(0, host);
  await once(server, 'listening');
  const port = nextPort++;
  redirect(port, (server.address() as AddressInfo).port);

  const waiting: Socket[] = [];
  server.on('connection', (socket) => waiting.push(socket));
  /** So many connections, as both ends see them. */
  const accept = async (count: number): Promise<{ sockets: Socket[]; clients: Socket[] }> => {
    const clients = Array.from({ length: count }, () => connect(port, destination));
    while (waiting.length < count) await once(server, 'connection');
    return { sockets: waiting.splice(0), clients };
  };
  const kept = await accept(1);
  const fd = socketFd(kept.sockets[0]!)!;
  /** Nanoseconds that a call takes in C. */
  const inC = (mode: 'getppid' | 'getsockopt'): number =>
    Number(execFileSync(bare, [mode, String(CALLS)], { stdio: ['ignore', 'pipe', 'inherit', fd] }));

  const results = {
    empty: [] as number[],
    bare: [] as number[],
    raw: [] as number[],
    recover: [] as number[],
  };
  for (let round = 0; round <= ROUNDS; round++) {
    const empty = inC('getppid');
    const getsockopt = inC('getsockopt');
    const raw = perCall(CALLS, () => getOriginalDst(fd));
    const { sockets, clients } = await accept(SOCKETS);
    let next = 0;
    const recover = perCall(SOCKETS, () => recoverOriginalDst(sockets[next++]!));
    for (const end of [...clients, ...sockets]) end.resetAndDestroy();
    if (round === 0) continue; // the compiler's
    results.empty.push(empty);
    results.bare.push(getsockopt);
    results.raw.push(raw);
    results.recover.push(recover);
  }
  for (const end of [...kept.clients, ...kept.sockets]) end.resetAndDestroy();
  server.close();

  const base = median(results.bare);
  console.log(`\n${name}`);
  const empty = median(results.empty);
  row('an empty system call (getppid) in C', `${empty.toFixed(0)} ns`, empty / base);
  row('getsockopt(SO_ORIGINAL_DST) in C', `${base.toFixed(0)} ns`, 1);
  row('getOriginalDst(fd)', `${median(results.raw).toFixed(0)} ns`, median(results.raw) / base, 'aim ≤ 1.30');
  row(
    'recoverOriginalDst(socket), first call',
    `${median(results.recover).toFixed(0)} ns`,
    median(results.recover) / base,
  );
}

interface Server {
  readonly pid: number;
  readonly port: number;
}

async function nodeServer(mode: 'plain' | 'intercept'): Promise<Server> {
  const child = fork(fileURLToPath(new URL('accept-server.js', import.meta.url)), [mode]);
  children.push(child);
  const [port] = (await once(child, 'message')) as [number];
  return { pid: child.pid!, port };
}

async function bareServer(mode: 'accept' | 'recover', port: number): Promise<Server> {
  const child = spawn(bare, [mode, String(port)], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout, 'data');
  return { pid: child.pid!, port };
}

async function accepts(): Promise<void> {
  const servers = [
    { name: 'accept and close in C', server: await bareServer('accept', 15001) },
    { name: 'the same, with the system calls of recovery', server: await bareServer('recover', 15002) },
    { name: 'net.createServer', server: await nodeServer('plain') },
    { name: 'createServer of this package', server: await nodeServer('intercept') },
  ].map((entry) => ({ ...entry, port: nextPort++, rates: [] as number[], cpu: [] as number[] }));
  for (const { port, server } of servers) redirect(port, server.port);

  for (let round = -WARM; round < ROUNDS; round++) {
    // Another order each time, so that nobody is always the first after the pause.
    for (let turn = 0; turn < servers.length; turn++) {
      const { server, port, rates, cpu } = servers[(round + WARM + turn) % servers.length]!;
      const before = cpuNanoseconds(server.pid);
      const client = execFileSync(bare, ['connect', DESTINATION, String(port), String(CONNECTIONS)]);
      const spent = cpuNanoseconds(server.pid) - before;
      if (round < 0) continue;
      rates.push(Number(client));
      cpu.push(spent / CONNECTIONS / 1000);
    }
  }

  console.log('\nAccepted connections a second, all redirected');
  const [bareOnes, nodeOnes] = [servers.slice(0, 2), servers.slice(2)];
  for (const [plain, recovering] of [bareOnes, nodeOnes]) {
    /** The median of the rounds' ratios. */
    const ratio = (of: (server: (typeof servers)[number], round: number) => number): number =>
      median(plain!.rates.map((_, round) => of(recovering!, round) / of(plain!, round)));
    for (const { name, rates, cpu } of [plain!, recovering!]) {
      row(name, `${median(rates).toFixed(0)}/s`, undefined, `${median(cpu).toFixed(1)} µs of CPU each`);
    }
    row(
      '  with recovery ÷ without',
      '',
      ratio(({ rates }, round) => rates[round]!),
    );
    row('  without ÷ with, of the CPU time', '', 1 / ratio(({ cpu }, round) => cpu[round]!));
  }
}

try {
  // From dist/bench; the C source stays where it is.
  execFileSync('cc', ['-O2', '-o', bare, fileURLToPath(new URL('../../bench/bare.c', import.meta.url))]);
  await main();
} finally {
  for (const child of children) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
}
