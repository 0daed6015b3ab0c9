// What waits for sockets ends with its environment, whatever happens first: a thread where the event loop is foreign.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { createDatagramSocket } from '../../lib/index.ts';
import { sockets } from '../fixtures/descriptors.ts';
import { client, nextMessage } from '../fixtures/udp.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';

const script = fileURLToPath(new URL('../fixtures/programs/datagram-lifetime.js', import.meta.url));

const STAGES = [
  'end',
  'exit-open',
  'exit-in-handler',
  'exit-in-flood',
  'throw-in-handler',
  'close-in-handler',
  'unref',
  'collected',
  'no-descriptors',
];
// The workers below try more of them where the loop is foreign.
const CASES = [
  ...STAGES.map((stage) => [stage]),
  ...['throw-in-handler', 'collected', 'no-descriptors'].map((stage) => [stage, 'foreign']),
];

for (const [stage = '', ...loop] of CASES) {
  t.test(`a process that ends: ${[stage, ...loop].join(', ')}`, async (t) => {
    const args = ['--expose-gc', script, stage, ...loop];
    const { status, signal, stderr, stdout } = spawnSync(process.execPath, args, {
      encoding: 'utf8',
      timeout: 60_000,
      // Only the last ones have news for the coverage.
      env: stage === 'no-descriptors' ? process.env : unmeasured,
    });
    t.equal(signal, null);
    t.equal(status, stage === 'throw-in-handler' ? 1 : 0, stderr);
    t.match(stdout, `${stage} reached`);
  });
}

const threads = () => readdirSync('/proc/self/task').length;

t.test('workers: each has its own, and leaves nothing behind', async (t) => {
  const before = { threads: threads(), sockets: sockets().size };
  for (const stage of ['end', 'exit-open', 'exit-in-handler', 'exit-in-flood', 'open', 'unref']) {
    const workers = [[], ['foreign']].map(
      (loop) => new Worker(script, { argv: [stage, ...loop], execArgv: [], env: unmeasured, stdout: true }),
    );
    const ends = workers.map((worker) => once(worker, 'exit'));
    await Promise.all(workers.map((worker) => once(worker, 'message')));
    if (stage === 'open') for (const worker of workers) void worker.terminate();
    await Promise.all(ends);
    t.same({ threads: threads(), sockets: sockets().size }, before, stage);
  }
});

t.test('a worker and its parent have sockets at the same time', async (t) => {
  const socket = createDatagramSocket({ address: '127.0.0.1' });
  t.teardown(() => socket.close());
  const worker = new Worker(script, { argv: ['open'], execArgv: [], env: unmeasured, stdout: true });
  await once(worker, 'message');
  await worker.terminate();
  const from = await client('udp4');
  t.teardown(() => from.close());
  from.send('still here', socket.address().port, '127.0.0.1');
  t.equal(String((await nextMessage(socket))[0]), 'still here');
});
