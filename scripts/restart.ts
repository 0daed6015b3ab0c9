// Usage: restart [--restarts N] [--clients N]
//
// Restarts a relay server under load, by each way of handing over the port, and counts the clients that were not served.
// The closing server without a successor's help, that of `none`, shows that the load would tell.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { MOST_CLIENTS, visit } from './soak/client.ts';
import { inWorld, startWorld } from './soak/world.ts';
import { type Outcome, summary } from './summary.ts';

const { values } = parseArgs({
  options: { restarts: { type: 'string', default: '10' }, clients: { type: 'string', default: '64' } },
});
const restarts = Number(values.restarts);
const clients = Number(values.clients);
if (!(restarts >= 1) || !(clients >= 1 && clients <= MOST_CLIENTS))
  throw new Error(`usage: restart [--restarts N] [--clients 1 to ${MOST_CLIENTS}]`);

inWorld();
const far = await startWorld(clients);
const program = fileURLToPath(new URL('./soak/restarted.js', import.meta.url));

type Way = 'reuse-port' | 'inherit' | 'none';

/** Lines of the servers' common standard output: the process that listens now. */
async function nextPid(output: NodeJS.ReadableStream): Promise<number> {
  return Number(String(((await once(output, 'data')) as [Buffer])[0]));
}

function start(way: Way): ChildProcess & { stdout: NodeJS.ReadableStream } {
  return spawn(process.execPath, [program, way], { stdio: ['ignore', 'pipe', 'inherit'] }) as never;
}

/** Until that process is no more; whose parent has gone stays as a zombie here. */
async function end(pid: number): Promise<void> {
  process.kill(pid, 'SIGTERM');
  while (existsSync(`/proc/${pid}/exe`)) await delay(5);
}

async function run(way: Way, times: number): Promise<Outcome> {
  const first = start(way);
  let pid = await nextPid(first.stdout);
  const fates: Record<string, number> = {};
  const state = { on: true };
  const row = async (number: number): Promise<void> => {
    while (state.on) {
      const { seen } = await visit(number, 'plain');
      fates[seen] = (fates[seen] ?? 0) + 1;
    }
  };
  const rows = Array.from({ length: clients }, (_, number) => row(number));
  for (let i = 0; i < times; i++) {
    await delay(500);
    if (way === 'none') {
      await end(pid);
      pid = await nextPid(start(way).stdout);
    } else if (way === 'reuse-port') {
      const successor = await nextPid(start(way).stdout);
      await end(pid);
      pid = successor;
    } else {
      process.kill(pid, 'SIGUSR2');
      const successor = await nextPid(first.stdout);
      await end(pid);
      pid = successor;
    }
  }
  await delay(500);
  state.on = false;
  await Promise.all(rows);
  await end(pid);
  const { whole = 0, ...others } = fates;
  const failed = Object.entries(others).map(([fate, count]) => `${count} ${fate}`);
  const details = `${times} restarts, ${whole} clients served${failed.length > 0 ? `, not served: ${failed.join(', ')}` : ''}`;
  const problems = way === 'none' ? (failed.length === 0 ? ['the load shows nothing'] : []) : failed;
  return { name: way, problems, details };
}

const outcomes = [
  await run('reuse-port', restarts),
  await run('inherit', restarts),
  await run('none', Math.min(restarts, 2)),
];
summary(outcomes);
far.kill();
