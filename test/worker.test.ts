// Worker threads load the addon for themselves and may be gone at any moment.
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { beBusy, stages, type Stage } from './fixtures/busy.ts';
import { unmeasured } from './fixtures/unmeasured.ts';

const program = new URL('fixtures/programs/busy-worker.js', import.meta.url);

function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

async function startWorker(stage: Stage): Promise<Worker> {
  const worker = new Worker(program, { workerData: stage, execArgv: [], env: unmeasured });
  await once(worker, 'message'); // started
  return worker;
}

t.test('a worker ended at any stage leaves no descriptor open', async (t) => {
  // The first worker opens what V8 and libuv keep for the next.
  await (await startWorker('loaded')).terminate();
  const before = openDescriptors();
  for (const stage of stages) {
    const worker = await startWorker(stage);
    await once(worker, 'message'); // there
    t.ok(openDescriptors() > before, `${stage}: at work`);
    await worker.terminate();
    t.equal(openDescriptors(), before, `${stage}: as before`);
  }
});

t.test('a worker ended while it loads the addon', async (t) => {
  let underway = 0;
  for (let i = 0; i < 20; i++) {
    const progress = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(new URL('fixtures/programs/loading-worker.js', import.meta.url), {
      workerData: progress,
      execArgv: [],
      env: unmeasured,
    });
    while (Atomics.load(progress, 0) === 0) await sleep(1);
    // No timer is fine enough.
    const moment = performance.now() + i / 2;
    while (performance.now() < moment);
    if (Atomics.load(progress, 0) === 1) underway++;
    await worker.terminate();
  }
  t.ok(underway > 0, `${underway} of 20 had not done`);
});

t.test('many workers ended at moments of no plan, the main thread at work', async (t) => {
  const close = await beBusy('talking');
  t.teardown(close);
  const before = openDescriptors();
  for (let round = 0; round < 2; round++) {
    const workers = await Promise.all([...stages, ...stages].map((stage) => startWorker(stage)));
    await Promise.all(
      workers.map(async (worker, index) => {
        await sleep((index * 7 + round * 3) % 40);
        await worker.terminate();
      }),
    );
    t.equal(openDescriptors(), before, `round ${round}`);
  }
});

t.test('each worker has answers of its own', async (t) => {
  const workers = await Promise.all(stages.map(() => startWorker('talking')));
  for (const worker of workers) t.same(await once(worker, 'message'), ['there']);
  await Promise.all(workers.map((worker) => worker.terminate()));
});
