// The relay engine at every stage of a relay's life, and over several threads.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { relay, setRelayThreads, type Relay, type RelayOutcome } from '../../lib/index.ts';
import { connections, readAll, world } from '../fixtures/relay-world.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';

const STAGES = fileURLToPath(new URL('../fixtures/programs/relay-stages.js', import.meta.url));

t.test('many relays at once over several threads: each its own bytes', async (t) => {
  setRelayThreads(3);
  t.teardown(() => setRelayThreads(1));
  t.throws(() => setRelayThreads(0), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => setRelayThreads('2' as unknown as number), { code: 'ERR_INVALID_ARG_TYPE' });
  const make = await connections(t);
  const count = 300;
  const relays: Relay[] = [];
  const ends: { left: Socket; right: Socket }[] = [];
  for (let i = 0; i < count; i++) {
    const { left, client, upstream, right } = await world(t, make);
    relays.push(relay(client, upstream));
    ends.push({ left, right });
  }
  const outcomes = relays.map((one) => once(one, 'close'));
  const received = ends.map(({ right }, i) => {
    right.end(`answer ${i}`);
    return readAll(right);
  });
  const answers = ends.map(({ left }, i) => {
    left.end(`request ${i}`);
    return readAll(left);
  });
  for (let i = 0; i < count; i++) {
    t.equal(String((await received[i]!).data), `request ${i}`);
    t.equal(String((await answers[i]!).data), `answer ${i}`);
    t.same(await outcomes[i], [{ reason: 'end' }]);
  }
});

t.test('slots are used again and counters start at zero', async (t) => {
  const make = await connections(t);
  for (let i = 0; i < 3; i++) {
    const { left, client, upstream, right } = await world(t, make);
    const joined = relay(client, upstream);
    t.equal(joined.bytesToUpstream, 0);
    left.write('abc');
    await once(right, 'data');
    t.equal(joined.bytesToUpstream, 3);
    joined.destroy();
    t.same(await once(joined, 'close'), [{ reason: 'aborted' }]);
  }
});

t.test('a close listener that throws does not keep others from hearing', async (t) => {
  const make = await connections(t);
  const thrown = once(process, 'uncaughtException');
  const relays: Relay[] = [];
  for (let i = 0; i < 3; i++) {
    const { client, upstream } = await world(t, make);
    relays.push(relay(client, upstream));
  }
  relays[0]!.on('close', () => {
    throw new Error('from a listener');
  });
  const closed = relays.slice(1).map((one) => once(one, 'close'));
  for (const one of relays) one.destroy();
  t.match(await thrown, [{ message: 'from a listener' }]);
  for (const outcome of await Promise.all(closed)) t.same(outcome, [{ reason: 'aborted' }]);
});

t.test('the process ends cleanly', async (t) => {
  for (const stage of ['unref', 'idle', 'moving', 'exit', 'throw', 'waiting', 'closing']) {
    const child = spawn(process.execPath, [STAGES, stage], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.resume();
    child.stderr.resume();
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    t.same({ code, signal }, { code: stage === 'exit' ? 7 : stage === 'throw' ? 1 : 0, signal: null }, stage);
  }
});

t.test('an open relay keeps the process alive', async (t) => {
  const child = spawn(process.execPath, [STAGES, 'held'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [ready] = (await once(child.stdout, 'data')) as [Buffer];
  t.equal(String(ready), 'open\n');
  const early = await Promise.race([
    once(child, 'exit').then(() => 'exited'),
    new Promise((resolve) => setTimeout(resolve, 300, 'alive')),
  ]);
  t.equal(early, 'alive');
  child.kill('SIGTERM');
  await once(child, 'exit');
});

t.test('worker threads: relays of their own, terminated at any stage', async (t) => {
  for (const stage of ['unref', 'moving', 'idle', 'waiting', 'closing', 'exit', 'held', 'fresh']) {
    const worker = new Worker(STAGES, { argv: [stage], execArgv: [], env: unmeasured, stdout: true });
    const errors: Error[] = [];
    worker.on('error', (error) => errors.push(error));
    const exited = once(worker, 'exit') as Promise<[number]>;
    if (stage === 'held' || stage === 'moving') {
      await once(worker.stdout, 'data');
      await worker.terminate();
    } else if (stage === 'fresh') {
      await worker.terminate();
    }
    const [code] = await exited;
    t.same(errors, [], stage);
    if (stage === 'fresh') continue; // 0 or 1: it may not have begun
    t.equal(code, stage === 'held' || stage === 'moving' ? 1 : stage === 'exit' ? 7 : 0, stage);
  }
  const { left, client, upstream, right } = await world(t);
  const joined = relay(client, upstream);
  left.end('still works');
  t.equal(String((await readAll(right)).data), 'still works');
  joined.destroy();
  const [outcome] = (await once(joined, 'close')) as [RelayOutcome];
  t.same(outcome, { reason: 'aborted' });
});
