// npm run bench:syscalls [-- --count N --mode redirect|tproxy|ebpf --only TEXT]
// System calls that a transparent proxy makes for a connection and for a keep-alive request, one at a time, counted by
// strace(1) in a process that has been warmed up. A count depends little on how busy the machine is; it says what a
// connection costs a proxy that has nothing else to do. Prints Markdown tables.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { enterNamespace } from './namespace.ts';
import { peers, start, type Peer } from './proxy/peers.ts';
import { markdown } from './proxy/report.ts';
import { checkProxied, startServer } from './proxy/server.ts';
import { buildHosts, type Mode, MODE_TITLES, on, PROXY_PORT, SERVER, setRules } from './proxy/topology.ts';

const COMPARED = [
  'HAProxy',
  'original-dst cached',
  'original-dst TypeScript decides',
  'original-dst relay()',
];
const LOADS = ['connections', 'requests'] as const;
type Load = (typeof LOADS)[number];
/** What is called less often than this is summed up. */
const WORTH_A_LINE = 0.05;

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '400' },
    mode: { type: 'string', default: 'redirect' },
    only: { type: 'string', multiple: true, default: COMPARED },
  },
});
const count = Number(values.count);
const mode = values.mode as Mode;
const compared = peers.filter(
  ({ name, modes, byName, viaSocks }) =>
    modes.includes(mode) &&
    !byName &&
    !viaSocks &&
    name !== 'HAProxy splice-auto' &&
    values.only.some((text) => name.includes(text)),
);
enterNamespace({
  tools: ['unshare', 'ip', 'nft', 'curl', 'nginx', 'strace'].concat(
    compared.flatMap((peer) => peer.tools ?? []),
  ),
  root: mode === 'ebpf',
});

/** Sends the requests; the answer ends what is still open. */
async function send(requests: number, load: Load): Promise<() => Promise<void>> {
  const script = fileURLToPath(new URL('./proxy/one-at-a-time-client.js', import.meta.url));
  const [command, ...args] = on('client', [process.execPath, script, SERVER, String(requests), load]);
  const child = spawn(command!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  if (load === 'connections') await exited;
  else await once(child.stdout, 'data');
  return async () => {
    child.stdin.end();
    await exited;
  };
}

/** Is every thread of the process traced? */
function traced(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) =>
    /TracerPid:\s+[1-9]/.test(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')),
  );
}

/** Calls of the process per request, by name, while `count` of them are sent. */
async function callsPerRequest(pid: number, load: Load, directory: string): Promise<Map<string, number>> {
  const file = join(directory, 'strace');
  const strace = spawn('strace', ['-f', '-c', '-U', 'name,calls', '-o', file, '-p', String(pid)], {
    stdio: 'ignore',
  });
  while (!traced(pid)) await delay(10);
  const end = await send(count, load);
  // The last connection is over for the client before it is for the proxy.
  await delay(300);
  strace.kill('SIGINT');
  await once(strace, 'exit');
  await end();
  const lines = readFileSync(file, 'utf8').matchAll(/^(\w+) +(\d+)$/gm);
  return new Map(
    [...lines]
      .filter(([, name]) => name !== 'total')
      .map(([, name, calls]) => [name!, Number(calls) / count]),
  );
}

async function measure(peer: Peer, load: Load, directory: string): Promise<Map<string, number>> {
  const proxy = await start(peer, { mode, port: PROXY_PORT, directory });
  try {
    checkProxied(mode);
    await (
      await send(100, 'connections')
    )();
    return await callsPerRequest(proxy.pid, load, directory);
  } finally {
    await proxy.stop();
  }
}

function table(counted: Map<string, number>[]): string {
  const sum = (numbers: Iterable<number>): number => [...numbers].reduce((all, one) => all + one, 0);
  const most = (name: string): number => Math.max(...counted.map((calls) => calls.get(name) ?? 0));
  const names = [...new Set(counted.flatMap((calls) => [...calls.keys()]))];
  const told = names.filter((name) => most(name) >= WORTH_A_LINE).sort((a, b) => most(b) - most(a));
  const line = (name: string, of: (calls: Map<string, number>) => number): string[] => [
    name,
    ...counted.map((calls) => of(calls).toFixed(1)),
  ];
  return markdown([
    ['', ...compared.map(({ name }) => name)],
    ...told.map((name) => line(name, (calls) => calls.get(name) ?? 0)),
    line('others', (calls) =>
      sum([...calls].filter(([name]) => !told.includes(name)).map(([, calls]) => calls)),
    ),
    line('all', (calls) => sum(calls.values())),
  ]);
}

const directory = mkdtempSync(join(tmpdir(), 'bench-syscalls-'));
buildHosts();
setRules(mode);
const stopServer = await startServer(directory, []);
try {
  for (const load of LOADS) {
    const counted: Map<string, number>[] = [];
    for (const peer of compared) counted.push(await measure(peer, load, directory));
    const each = load === 'connections' ? 'connection' : 'keep-alive request';
    console.log(`\nSystem calls per ${each}, one at a time, ${MODE_TITLES[mode]}:\n\n${table(counted)}`);
  }
} finally {
  stopServer();
  rmSync(directory, { recursive: true });
}
