// The loads that a proxy is put under, and the figures that each yields.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Values } from './figures.ts';
import { residentBytes, wrk, wrkWithCpu } from './measure.ts';
import { NAME, on, SERVER } from './topology.ts';

export interface LoadOptions {
  /** How long each transfer lasts. */
  seconds: number;
  /** The largest number of idle connections. */
  idle: number;
}

export interface LoadResult {
  values: Values;
  errors: number;
}

export interface Load {
  /** By few connections, so that the pools that they leave are small; once for each process. */
  warmUp(): Promise<void>;
  measure(pid: number, options: LoadOptions): Promise<LoadResult>;
  /** Of a process that has done nothing else, and but once: it takes long and is hardly noisy. */
  alone?: true;
  /** For peers that go by names; all others are for the others. */
  byName?: true;
}

const GIB = 2 ** 30;
const CONNECTIONS = 64;
/** V8 gives memory back when it has had nothing to do for 8 s; between two looks it would hide what grows. */
const QUIET_SECONDS = 10;
const NOISE_BYTES = 64 * 1024;

const WARM_UP = { path: '/small', connections: 16, seconds: 1 } as const;

async function warmUp(): Promise<void> {
  await wrk(WARM_UP);
}

/** Longer than anything has been seen to move; then it is measured as it is. */
const MOST_SECONDS = 60;

/** Resident bytes of the process once they have not changed for a while. */
async function settledBytes(pid: number): Promise<number> {
  let bytes = residentBytes(pid);
  let quiet = 0;
  for (let second = 0; quiet < QUIET_SECONDS && second < MOST_SECONDS; second++) {
    await delay(1000);
    const now = residentBytes(pid);
    quiet = Math.abs(now - bytes) > NOISE_BYTES ? 0 : quiet + 1;
    bytes = now;
  }
  return bytes;
}

/** Opens idle connections through the proxy, runs `during`, closes them. */
async function withIdle<T>(count: number, during: () => Promise<T>): Promise<T> {
  const script = fileURLToPath(new URL('./idle-client.js', import.meta.url));
  const [command, ...args] = on('client', [process.execPath, script, SERVER, String(count)]);
  const child = spawn(command!, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const [line] = (await Promise.race([once(child.stdout, 'data'), exited])) as [unknown];
  if (String(line).trim() !== 'open') throw new Error(`could not open ${count} connections`);
  await delay(500); // what opening them has left to do
  const result = await during();
  if (child.exitCode !== null) throw new Error(`could not hold ${count} connections`);
  child.stdin.end();
  await exited;
  return result;
}

/** Connections that serve one request each. */
const setup: Load = {
  async warmUp() {
    // By connections that end: it is their code that this load runs.
    await wrk({ ...WARM_UP, close: true });
  },
  async measure(pid, { seconds }) {
    const load = await wrkWithCpu(pid, { path: '/small', connections: CONNECTIONS, seconds, close: true });
    return {
      values: {
        cpuPerConnection: load.cpu / load.requests,
        connectionsPerSecond: load.requests / load.seconds,
        proxyBusyConnections: load.proxyBusy,
        othersBusyConnections: load.othersBusy,
      },
      errors: load.errors,
    };
  },
};

/** Small requests on connections that stay. */
const keepalive: Load = {
  warmUp,
  async measure(pid, { seconds }) {
    const load = await wrkWithCpu(pid, { path: '/small', connections: CONNECTIONS, seconds });
    return {
      values: {
        cpuPerRequest: load.cpu / load.requests,
        requestsPerSecond: load.requests / load.seconds,
        proxyBusyRequests: load.proxyBusy,
        othersBusyRequests: load.othersBusy,
        p50: load.p50,
        p99: load.p99,
      },
      errors: load.errors,
    };
  },
};

/** Big answers, on one connection and on many. */
const bulk: Load = {
  warmUp,
  async measure(pid, { seconds }) {
    const one = await wrkWithCpu(pid, { path: '/big', connections: 1, seconds });
    const many = await wrkWithCpu(pid, { path: '/big', connections: CONNECTIONS, seconds });
    return {
      values: {
        gibPerSecond1: one.bytes / GIB / one.seconds,
        gibPerSecond64: many.bytes / GIB / many.seconds,
        cpuPerGib: (one.cpu + many.cpu) / ((one.bytes + many.bytes) / GIB),
        proxyBusyBulk: many.proxyBusy,
        othersBusyBulk: many.othersBusy,
      },
      errors: one.errors + many.errors,
    };
  },
};

/**
 * Memory: how much the process grows from no connection to all. It has held no more than the warm-up's few before:
 * what a heavier load leaves in pools and heap would be used again and not be seen to grow. V8's heap moves by some 2 MB
 * of its own accord, which is 0.2 kB for each of 10,000 connections, and with a few hundred more than the figure itself.
 */
const idle: Load = {
  alone: true,
  warmUp,
  async measure(pid, { idle: count }) {
    const before = await settledBytes(pid);
    const grown = await withIdle(count, async () => (await settledBytes(pid)) - before);
    return { values: { bytesPerIdle: grown / count }, errors: 0 };
  },
};

/** Small requests beside more and more idle connections. */
const scale: Load = {
  alone: true,
  warmUp,
  async measure(pid, { seconds, idle: most }) {
    const values: Values = {};
    let errors = 0;
    for (const [figure, count] of [
      ['cpuBeside1', 1],
      ['cpuBeside100', 100],
      ['cpuBeside1000', 1000],
      ['cpuBesideMost', most],
    ] as const) {
      const load = await withIdle(count, async () =>
        wrkWithCpu(pid, { path: '/small', connections: CONNECTIONS, seconds }),
      );
      values[figure] = load.cpu / load.requests;
      errors += load.errors;
    }
    return { values, errors };
  },
};

/** As setup, by those who decide by the name: of the Host field, and of a ClientHello. */
const BY_HOST = { close: true, origin: `http://${NAME}` };
const BY_HELLO = { close: true, origin: `https://${NAME}` };
const names: Load = {
  byName: true,
  async warmUp() {
    await wrk({ ...WARM_UP, ...BY_HOST });
    await wrk({ ...WARM_UP, ...BY_HELLO });
  },
  async measure(pid, { seconds }) {
    const small = { path: '/small', connections: CONNECTIONS, seconds } as const;
    const http = await wrkWithCpu(pid, { ...small, ...BY_HOST });
    const tls = await wrkWithCpu(pid, { ...small, ...BY_HELLO });
    const all = {
      cpuPerHost: http.cpu / http.requests,
      cpuPerHello: tls.cpu / tls.requests,
      p99Host: http.p99,
      p99Hello: tls.p99,
    };
    // Who cannot do it has refused them all.
    const values = Object.fromEntries(
      Object.entries(all).filter(([, value]) => Number.isFinite(value) && value > 0),
    );
    return { values, errors: http.requests > 0 ? http.errors + tls.errors : tls.errors };
  },
};

export const loads: Record<string, Load> = { setup, keepalive, bulk, idle, scale, names };
