// Usage: soak [--minutes N] [--clients N]
//
// A relay server under a steady load, one in a hundred of whose clients is a fault: RST from either end, a destination that
// does not answer, a client that says nothing. Every few seconds something befalls all of them: the proxy has no descriptor
// left, the upstream stands still, conntrack forgets every connection. Descriptors and memory are to be back where they were
// after the first tenth; no client may be given bytes that were not sent, or an end that nobody has made.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type Fate, visit, type Way } from './soak/client.ts';
import { inWorld, sh, startWorld } from './soak/world.ts';
import type { Held } from './soak/proxy.ts';
import { type Outcome, summary } from './summary.ts';

const { values } = parseArgs({
  options: { minutes: { type: 'string', default: '30' }, clients: { type: 'string', default: '24' } },
});
const minutes = Number(values.minutes);
const clients = Number(values.clients);
if (!(minutes > 0) || !(clients >= 1)) throw new Error('usage: soak [--minutes N] [--clients N]');

inWorld();

const program = (name: string): string => fileURLToPath(new URL(`./soak/${name}.js`, import.meta.url));

const far = await startWorld();
const proxy: ChildProcess = spawn(process.execPath, ['--expose-gc', program('proxy')], {
  stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
});
await once(proxy, 'message');
const state = { died: false, calm: true, loading: true };
proxy.once('exit', () => (state.died = true));

async function ask(): Promise<Held> {
  proxy.send('?');
  return ((await once(proxy, 'message')) as [Held])[0];
}

const FAULTS = ['resets', 'is reset', 'dials nobody', 'says nothing'] as const;
const fates: Record<Fate, number> = { whole: 0, reset: 0, silence: 0, 'gave up': 0, wrong: 0 };
/** Of clients that were no fault, while nothing befell all of them. */
const undeserved: Record<Fate, number> = { whole: 0, reset: 0, silence: 0, 'gave up': 0, wrong: 0 };

async function client(): Promise<void> {
  while (state.loading && !state.died) {
    const way: Way = Math.random() < 0.01 ? FAULTS[Math.floor(Math.random() * FAULTS.length)]! : 'plain';
    const calmAtFirst = state.calm;
    const fate = await visit(way);
    fates[fate]++;
    if (way === 'plain' && state.calm && calmAtFirst) undeserved[fate]++;
    await delay(20 + Math.random() * 60);
  }
}

const disasters: Record<string, () => Promise<void>> = {
  'no descriptor left': async () => {
    const { descriptors, pipes } = await ask();
    sh(`prlimit --pid ${proxy.pid} --nofile=${descriptors + pipes}:`);
    await delay(300);
    sh(`prlimit --pid ${proxy.pid} --nofile=65536: || prlimit --pid ${proxy.pid} --nofile=1024:`);
  },
  'the upstream stands still': async () => {
    far.kill('SIGSTOP');
    await delay(500);
    far.kill('SIGCONT');
  },
  'conntrack forgets': async () => {
    sh('conntrack -F >/dev/null 2>&1');
    await delay(100);
  },
};
const befallen: Record<string, number> = {};

async function befall(): Promise<void> {
  while (state.loading && !state.died) {
    for (const [name, disaster] of Object.entries(disasters)) {
      state.calm = false;
      await disaster();
      befallen[name] = (befallen[name] ?? 0) + 1;
      // Until the last of those whom it has met has given up.
      await delay(9000);
      state.calm = true;
      await delay(3000);
      if (!state.loading || state.died) return;
    }
  }
}

async function run(forMs: number): Promise<void> {
  state.loading = true;
  state.calm = true;
  const all = [...Array.from({ length: clients }, client), befall()];
  const end = performance.now() + forMs;
  while (performance.now() < end && !state.died) {
    await delay(Math.min(60_000, end - performance.now()));
    if (state.died) break;
    const { descriptors, pipes, rss, open, accepted } = await ask();
    console.log(
      `${new Date().toISOString()} ${accepted} connections, ${open} open, ${descriptors + pipes} descriptors, ${(rss / 2 ** 20).toFixed(1)} MiB`,
    );
  }
  state.loading = false;
  await Promise.all(all);
}

/** When everything has come to its end. */
async function atRest(): Promise<Held> {
  let held = await ask();
  for (let i = 0; i < 200 && held.open > 0; i++) {
    await delay(100);
    held = await ask();
  }
  await delay(1000);
  return ask();
}

const ms = minutes * 60_000;
await run(ms / 10);
const before = await atRest();
await run((ms * 9) / 10);
const after = state.died ? undefined : await atRest();

const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const list = (counts: Record<string, number>): string =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(', ');
/** What an allocator keeps for the next time, and a heap that has grown to its working size. */
const SLACK = 16 * 2 ** 20;
const outcomes: Outcome[] = [
  { name: 'lives', problems: after ? [] : ['the proxy has ended'] },
  {
    name: 'clients',
    problems: fates.wrong > 0 ? [`${fates.wrong} were given what was not sent`] : [],
    details: list(fates),
  },
  {
    name: 'in calm',
    problems:
      undeserved.reset + undeserved.silence + undeserved['gave up'] > 0
        ? ['some that were no fault were not served']
        : [],
    details: list(undeserved),
  },
  { name: 'disasters', problems: [], details: list(befallen) },
];
if (after) {
  outcomes.push(
    {
      name: 'descriptors',
      problems: after.descriptors > before.descriptors ? ['more than at first'] : [],
      details: `${before.descriptors} → ${after.descriptors}; ${before.pipes} → ${after.pipes} in pipes that threads keep`,
    },
    {
      name: 'memory',
      problems: after.rss > before.rss + SLACK ? ['more than at first'] : [],
      details: `${mib(before.rss)} → ${mib(after.rss)}, heap ${mib(before.heap)} → ${mib(after.heap)}`,
    },
    {
      name: 'records',
      problems:
        after.open > 0 || after.recorded + after.recordsDropped > after.accepted ? ['do not add up'] : [],
      details: `${after.accepted} accepted, ${after.recorded} recorded, ${after.recordsDropped} dropped; refused: ${list(after.refused)}`,
    },
  );
}
summary(outcomes);
proxy.kill();
far.kill();
