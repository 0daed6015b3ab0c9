// The proxies that are compared. Each does the same job: pass TCP to where the client was going.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { haproxyByName, nginxByName } from './by-name.ts';
import { haproxy } from './haproxy.ts';
import { ensureStreamModule, nginxStream } from './nginx-stream.ts';
import { cgroupOf, HEADER_PORT, makeCgroup, type Mode, MODES, on, SERVER, SOCKS_PORT } from './topology.ts';

export interface Peer {
  name: string;
  modes: Mode[];
  /** What has to be installed, as scripts/ensure-tools.sh takes it. */
  tools?: string[];
  /** Installs what is no tool. */
  ensure?(): void;
  /** Its files go to the directory. */
  command(mode: Mode, directory: string, port: number): string[];
  /** Its work is done by a child, and that is measured. */
  hasWorker?: boolean;
  /** It connects by way of microsocks on the server's host. */
  viaSocks?: boolean;
  /** In the mode `ebpf` another process has to attach the programs. */
  captured?: boolean;
  /** It decides by name, and is put under the loads that are for those. */
  byName?: boolean;
}

function haproxyRelay(splice: boolean): Peer['command'] {
  return (mode, directory, port) =>
    haproxy(mode, directory, port, {
      global: ['maxpipes 200'],
      listen: [
        // It knows no aliases: it is told the one destination that there is, and is spared the question.
        mode === 'ebpf' ? `server only ${SERVER}:80` : 'option transparent',
        ...(splice ? ['option splice-auto'] : []),
      ],
    });
}

function ownProxy(file: string, ...more: string[]): Peer['command'] {
  const path = fileURLToPath(new URL(`./${file}`, import.meta.url));
  return (mode, _directory, port) => [process.execPath, path, mode, String(port), ...more];
}

/** What transparent SOCKS5 is done with elsewhere. */
function redsocks(directory: string, port: number): string[] {
  const file = `${directory}/redsocks-${port}.conf`;
  writeFileSync(
    file,
    `base { log_debug = off; log_info = off; log = "stderr"; daemon = off; redirector = iptables; redsocks_conn_max = 20000; }
redsocks { local_ip = 0.0.0.0; local_port = ${port}; ip = ${SERVER}; port = ${SOCKS_PORT}; type = socks5; listenq = 16384; }
`,
  );
  return ['redsocks', '-c', file];
}

const MITMDUMP =
  'mitmdump -q --mode transparent --tcp-hosts .* --ignore-hosts .* --set block_global=false -p';
const BOTH: Mode[] = ['redirect', 'tproxy'];
const ALL: Mode[] = [...MODES];

export const peers: Peer[] = [
  { name: 'HAProxy', modes: ALL, captured: true, tools: ['haproxy'], command: haproxyRelay(false) },
  {
    name: 'HAProxy splice-auto',
    modes: ALL,
    captured: true,
    tools: ['haproxy'],
    command: haproxyRelay(true),
  },
  {
    name: 'nginx stream',
    modes: ['tproxy'],
    tools: ['nginx', 'python3'],
    ensure: ensureStreamModule,
    command: (_mode, directory, port) => nginxStream(directory, port),
    hasWorker: true,
  },
  {
    name: 'mitmproxy',
    modes: ['redirect'],
    tools: ['mitmproxy'], // the package that mitmdump is in
    command: (_mode, _directory, port) => [...MITMDUMP.split(' '), String(port)],
  },
  { name: 'Node pipe', modes: BOTH, command: ownProxy('node-pipe.js') },
  { name: 'original-dst relay()', modes: BOTH, command: ownProxy('node-relay.js') },
  { name: 'original-dst relay() to a destination', modes: BOTH, command: ownProxy('node-relay-to.js') },
  { name: 'original-dst TypeScript decides', modes: ALL, command: ownProxy('node-decides.js') },
  { name: 'original-dst cached verdict', modes: ALL, command: ownProxy('node-cached.js') },
  {
    name: 'redsocks, via SOCKS5',
    modes: ['redirect'],
    tools: ['redsocks', 'microsocks'],
    viaSocks: true,
    command: (_mode, directory, port) => redsocks(directory, port),
  },
  {
    name: 'original-dst, via SOCKS5',
    modes: ['redirect'],
    tools: ['microsocks'],
    viaSocks: true,
    command: ownProxy('node-via.js', 'each'),
  },
  {
    name: 'original-dst cached verdict, via SOCKS5',
    modes: ['redirect'],
    tools: ['microsocks'],
    viaSocks: true,
    command: ownProxy('node-via.js', 'lasting'),
  },
  {
    // Not "HAProxy …", with whose plain forwarding all others are compared.
    name: 'PROXY v2, HAProxy send-proxy-v2',
    modes: ['redirect'],
    tools: ['haproxy'],
    command: (mode, directory, port) =>
      haproxy(mode, directory, port, { listen: [`server only ${SERVER}:${HEADER_PORT} send-proxy-v2`] }),
  },
  {
    name: 'PROXY v2, original-dst cached verdict',
    modes: ['redirect'],
    command: ownProxy('node-header.js'),
  },
  { name: 'HAProxy by name', modes: BOTH, tools: ['haproxy'], byName: true, command: haproxyByName },
  {
    name: 'nginx ssl_preread',
    modes: ['tproxy'],
    tools: ['nginx', 'python3'],
    ensure: ensureStreamModule,
    command: (_mode, directory, port) => nginxByName(directory, port),
    hasWorker: true,
    byName: true,
  },
  {
    name: 'original-dst TypeScript decides by name',
    modes: BOTH,
    byName: true,
    command: ownProxy('node-names.js', 'each'),
  },
  {
    name: 'original-dst cached verdict by name',
    modes: BOTH,
    byName: true,
    command: ownProxy('node-names.js', 'lasting'),
  },
];

/** Does something listen on the port? Asked of /proc: connecting would be a connection to be proxied. */
function listening(port: number): boolean {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
  return ['/proc/self/net/tcp', '/proc/self/net/tcp6'].some((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .some((line) => line.includes(wanted) && line.includes(' 0A ')),
  );
}

/** The first child of a process, or undefined while it has none. */
function childOf(pid: number): number | undefined {
  const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
  return child ? Number(child) : undefined;
}

export interface RunningPeer {
  /** The process that does the work. */
  pid: number;
  stop(): Promise<void>;
}

async function startCapture(port: number): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('../capture-alone.js', import.meta.url));
  const child = spawn(process.execPath, [script, cgroupOf(port), String(port)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout!, 'data');
  return child;
}

export interface StartOptions {
  mode: Mode;
  port: number;
  /** For the files of its configuration. */
  directory: string;
  pin?: string[];
}

/** Starts a peer and waits until it listens. */
export async function start(
  peer: Peer,
  { mode, port, directory, pin = [] }: StartOptions,
): Promise<RunningPeer> {
  if (mode === 'ebpf') makeCgroup(port);
  const [command, ...args] = [...pin, ...peer.command(mode, directory, port)];
  const child: ChildProcess = spawn(command!, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const exited = once(child, 'exit');
  const worker = (): number | undefined => (peer.hasWorker ? childOf(child.pid!) : child.pid);
  for (let tries = 0; !listening(port) || worker() === undefined; tries++) {
    if (tries > 200 || child.exitCode !== null || child.signalCode !== null) {
      child.kill('SIGKILL');
      throw new Error(`${peer.name} does not listen`);
    }
    await delay(50);
  }
  const pid = worker()!;
  const capture = mode === 'ebpf' && peer.captured ? await startCapture(port) : undefined;
  return {
    pid,
    async stop() {
      capture?.kill('SIGKILL');
      child.kill('SIGKILL');
      await exited;
      // A worker outlives the process that started it.
      if (pid !== child.pid) process.kill(pid, 'SIGKILL');
      while (listening(port)) await delay(20);
    },
  };
}

/** microsocks(1) on the server's host. Returns what ends it. */
export function startSocks(pin: string[]): () => void {
  const [command, ...args] = on('server', [...pin, 'microsocks', '-i', SERVER, '-p', String(SOCKS_PORT)]);
  const child = spawn(command!, args, { stdio: 'ignore' });
  return () => void child.kill('SIGKILL');
}
