// Processes and worker threads that end while a relay server of theirs is at work.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { unmeasured } from '../fixtures/unmeasured.ts';

const STAGES = fileURLToPath(new URL('../fixtures/programs/relay-server-stages.js', import.meta.url));

t.test('the process ends cleanly', async (t) => {
  for (const [stage, expected] of [
    ['listening', 7],
    ['undecided', 7],
    ['emit', 0],
    ['reset', 0],
  ] as const) {
    const child = spawn(process.execPath, [STAGES, stage], { stdio: 'inherit' });
    t.same(await once(child, 'exit'), [expected, null], stage);
  }
});

t.test('a decision that is still to come keeps it alive', async (t) => {
  const child = spawn(process.execPath, [STAGES, 'waiting'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill());
  const exited = once(child, 'exit');
  t.equal(String((await once(child.stdout, 'data'))[0]), 'waiting\n');
  const early = new Promise((resolve) => setTimeout(resolve, 300, 'alive'));
  t.equal(await Promise.race([exited.then(() => 'exited'), early]), 'alive');
  child.kill();
  t.same(await exited, [null, 'SIGTERM']);
});

t.test('worker threads, terminated at any stage', async (t) => {
  for (const stage of ['listening', 'undecided', 'emit', 'reset', 'waiting', 'fresh']) {
    const worker = new Worker(STAGES, { argv: [stage], execArgv: [], env: unmeasured, stdout: true });
    const exited = once(worker, 'exit');
    if (stage === 'waiting') await once(worker.stdout, 'data');
    if (stage === 'waiting' || stage === 'fresh') await worker.terminate();
    await exited;
    t.pass(stage);
  }
});
