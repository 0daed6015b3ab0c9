// Usage: soak [--minutes N] [--clients N] [--pause MS]
//
// A relay server under a steady load, one in a hundred of whose clients is a fault: RST from either end, a destination that
// does not answer, a client that says nothing. Every few seconds something befalls all of them: the proxy has no descriptor
// left, the upstream stands still, conntrack forgets every connection. Descriptors and memory are to be back where they were
// after the first tenth; no client may be given bytes that were not sent, or an end that nobody has made.
//
// `--pause`: between two disasters, in milliseconds. By default until the last of those whom it has met has given up; below
// that no client counts as one in calm.
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { ConnectionRecord } from '../lib/index.ts';
import { MOST_CLIENTS, visit, type Visit, type Way } from './soak/client.ts';
import { disastersOf } from './soak/disasters.ts';
import { type Fate, fateOf } from './soak/judge.ts';
import { ProxyProcess } from './soak/proxy-process.ts';
import type { Held } from './soak/proxy.ts';
import { inWorld, startWorld } from './soak/world.ts';
import { type Outcome, summary } from './summary.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '30' },
    // Many more use up the ports of one destination, each of which rests for a minute.
    clients: { type: 'string', default: '16' },
    pause: { type: 'string', default: '9000' },
  },
});
const [minutes, clients, pause] = [values.minutes, values.clients, values.pause].map(Number) as [
  number,
  number,
  number,
];
if (!(minutes > 0) || !(clients >= 1 && clients <= MOST_CLIENTS) || !(pause >= 0))
  throw new Error(`usage: soak [--minutes N] [--clients 1 to ${MOST_CLIENTS}] [--pause MS]`);

inWorld();

const far = await startWorld(clients);
const proxy = await ProxyProcess.start();
const state = { calm: true, loading: true, disaster: 'none yet', since: performance.now() };

const FAULTS = ['resets', 'is reset', 'dials nobody', 'says nothing'] as const;
const none: Record<Fate, number> = { whole: 0, reset: 0, silence: 0, undecided: 0, 'gave up': 0, wrong: 0 };
const fates = { ...none };
/** Of clients that were no fault, while nothing befell all of them. */
const undeserved = { ...none };
/** Of those that were not served in calm, so many are told. */
const MOST_TOLD = 20;
let told = 0;

const disasterNow = (): string => `${state.disaster}, ${Math.round(performance.now() - state.since)} ms ago`;

async function recordOf({ address, port, began, ended }: Visit): Promise<ConnectionRecord | undefined> {
  return port === undefined ? undefined : proxy.recordOf({ address, port, began, ended });
}

/** All that is known of a client, so that its fate can be explained. */
async function tell(what: string, one: Visit, disasters: string[]): Promise<void> {
  const record = await recordOf(one);
  console.log(`${new Date().toISOString()} ${what}: ${JSON.stringify({ ...one, disasters, record })}`);
}

async function client(number: number): Promise<void> {
  while (state.loading && !proxy.died) {
    const way: Way = Math.random() < 0.01 ? FAULTS[Math.floor(Math.random() * FAULTS.length)]! : 'plain';
    const calmAtFirst = state.calm;
    const disasters = [disasterNow()];
    const seen = await visit(number, way);
    disasters.push(disasterNow());
    const calm = way === 'plain' && state.calm && calmAtFirst;
    const asked = seen.seen === 'cut' || (calm && seen.seen === 'reset');
    const fate = fateOf(seen, asked ? await recordOf(seen) : undefined);
    fates[fate]++;
    if (calm) undeserved[fate]++;
    if (fate === 'wrong') await tell('wrong', seen, disasters);
    else if (calm && fate !== 'whole' && fate !== 'undecided' && told++ < MOST_TOLD)
      await tell(`${fate} in calm`, seen, disasters);
    await delay(20 + Math.random() * 60);
  }
}

const befallen: Record<string, number> = {};

async function befall(): Promise<void> {
  while (state.loading && !proxy.died) {
    for (const [name, disaster] of Object.entries(disastersOf(proxy, far))) {
      state.calm = false;
      state.disaster = name;
      state.since = performance.now();
      await disaster();
      befallen[name] = (befallen[name] ?? 0) + 1;
      await delay(pause);
      state.calm = pause >= 9000;
      await delay(pause / 3);
      if (!state.loading || proxy.died) return;
    }
  }
}

async function run(forMs: number): Promise<void> {
  state.loading = true;
  state.calm = true;
  const all = [...Array.from({ length: clients }, (_, number) => client(number)), befall()];
  const end = performance.now() + forMs;
  while (performance.now() < end && !proxy.died) {
    await delay(Math.min(60_000, end - performance.now()));
    if (proxy.died) break;
    const { descriptors, pipes, rss, open, accepted } = await proxy.held();
    console.log(
      `${new Date().toISOString()} ${accepted} connections, ${open} open, ${descriptors + pipes} descriptors, ${(rss / 2 ** 20).toFixed(1)} MiB`,
    );
  }
  state.loading = false;
  await Promise.all(all);
}

/** When everything has come to its end. */
async function atRest(): Promise<Held> {
  let held = await proxy.held();
  for (let i = 0; i < 200 && held.open > 0; i++) {
    await delay(100);
    held = await proxy.held();
  }
  await delay(1000);
  return proxy.held();
}

const ms = minutes * 60_000;
await run(ms / 10);
const before = await atRest();
await run((ms * 9) / 10);
const after = proxy.died ? undefined : await atRest();

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
        after.open > 0 || after.recorded + after.recordsDropped !== after.accepted ? ['do not add up'] : [],
      details: `${after.accepted} accepted, ${after.recorded} recorded, ${after.recordsDropped} dropped; refused: ${list(after.refused)}`,
    },
  );
}
summary(outcomes);
proxy.child.kill();
far.kill();
