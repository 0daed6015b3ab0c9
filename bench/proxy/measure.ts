// What is measured of a running proxy: CPU by the scheduler's own account, memory by the kernel's.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { SERVER, on } from './topology.ts';

/** Nanoseconds that all threads of a process have run. */
export function cpuNanoseconds(pid: number): number {
  let total = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    total += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
  }
  return total;
}

/** How many connections a proxy can hold: two descriptors each, and some to spare, of what the shell allows. */
export function maxConnections(): number {
  const limit = Number(/Max open files\s+(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))![1]);
  return Math.min(20_000, Math.floor((limit - 200) / 2));
}

/** Resident bytes of a process. What is in its sockets and pipes is the kernel's and not among them. */
export function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;
}

/** The processors to keep apart: the proxy on one, client and server on the other; none on a machine with one. */
export const pins: { proxy: string[]; others: string[] } =
  availableParallelism() < 2
    ? { proxy: [], others: [] }
    : { proxy: ['taskset', '-c', '1'], others: ['taskset', '-c', '0'] };

/** Seconds that the processor of client and server has had nothing to do. */
function othersIdleSeconds(): number {
  const [, , , , idle] = /^cpu0 .*$/m.exec(readFileSync('/proc/stat', 'utf8'))![0].split(' ');
  // In ticks of USER_HZ, which is 100 on all architectures but Alpha and IA-64 (asm-generic/param.h).
  return Number(idle) / 100;
}

export interface Transfer {
  requests: number;
  bytes: number;
  seconds: number;
  p50: number;
  p99: number;
  errors: number;
}

const UNITS: Record<string, number> = {
  us: 1e-6,
  ms: 1e-3,
  s: 1,
  m: 60,
  B: 1,
  KB: 2 ** 10,
  MB: 2 ** 20,
  GB: 2 ** 30,
};

function quantity(text: string | undefined): number {
  const match = /([\d.]+)([a-zA-Z]+)/.exec(text ?? '');
  return match ? Number(match[1]) * UNITS[match[2]!]! : Number.NaN;
}

// From dist/bench/proxy; the script stays where it is.
const BIG_FILES = fileURLToPath(new URL('../../../bench/proxy/big-files.lua', import.meta.url));

/** wrk(1) from the client's host. */
export async function wrk(options: {
  /** `/small`, or `/big`: the big files in turn. */
  path: '/small' | '/big';
  connections: number;
  seconds: number;
  close?: boolean;
  /** Default: HTTP to the server's address. */
  origin?: string;
}): Promise<Transfer> {
  const { path, connections, seconds, close, origin = `http://${SERVER}` } = options;
  const args = ['--latency', '-t', '1', '-c', String(connections), '-d', `${seconds}s`, '--timeout', '10s'];
  if (close) args.push('-H', 'Connection: close');
  if (path === '/big') args.push('-s', BIG_FILES);
  const [command, ...rest] = [...pins.others, ...on('client', ['wrk', ...args, `${origin}${path}`])];
  const child = spawn(command!, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  await once(child, 'close');
  const total = /(\d+) requests in ([\d.]+\w+), ([\d.]+\w+) read/.exec(text);
  if (!total) throw new Error(`wrk said: ${text}`);
  const socketErrors = /connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text) ?? [];
  const badAnswers = /Non-2xx or 3xx responses: (\d+)/.exec(text) ?? [];
  return {
    requests: Number(total[1]),
    seconds: quantity(total[2]),
    bytes: quantity(total[3]),
    p50: quantity(/^ +50% +(\S+)/m.exec(text)?.[1]),
    p99: quantity(/^ +99% +(\S+)/m.exec(text)?.[1]),
    errors: [...socketErrors.slice(1), ...badAnswers.slice(1)].reduce((sum, count) => sum + Number(count), 0),
  };
}

export interface Measured extends Transfer {
  /** Seconds that the proxy has run. */
  cpu: number;
  /** For which part of the time the proxy has run, and the processor of client and server was busy. */
  proxyBusy: number;
  othersBusy: number;
}

/** wrk, and what it cost. */
export async function wrkWithCpu(pid: number, options: Parameters<typeof wrk>[0]): Promise<Measured> {
  const [before, idle] = [cpuNanoseconds(pid), othersIdleSeconds()];
  const transfer = await wrk(options);
  const cpu = (cpuNanoseconds(pid) - before) / 1e9;
  const { seconds } = transfer;
  return {
    ...transfer,
    cpu,
    proxyBusy: cpu / seconds,
    othersBusy: 1 - (othersIdleSeconds() - idle) / seconds,
  };
}
