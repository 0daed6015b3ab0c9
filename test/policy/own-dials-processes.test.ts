// Loops between the threads and processes of one program.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { createServer } from '../../lib/index.ts';
import { call, listening, redirectChain, rules } from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace } from '../fixtures/netns.ts';

const proxy = fileURLToPath(new URL('../fixtures/programs/loop-proxy.js', import.meta.url));

const FAR = '198.51.100.10';
const CODE = 'ERR_INTERCEPT_LOOP';

await inNamespace(t, import.meta.url, () => {
  defaultRoutes();
  process.removeAllListeners('warning'); // the one that prints

  t.test('a thread that dials, and has no server', async (t) => {
    const server = createServer((accepted) => accepted.destroy());
    rules(t, 'inet', redirectChain(await listening(t, server)));
    const worker = new Worker(proxy, { execArgv: [] });
    // This thread may accept before the other has noted what it dials: then that is noticed the next time.
    for (let dials = 0; dials < 20 && !server.interceptStats.refused[CODE]; dials++) {
      worker.postMessage({ address: FAR, port: 80 });
      t.same(await once(worker, 'message'), ['closed']);
    }
    t.same(server.interceptStats.refused, { [CODE]: 1 });
    await worker.terminate();
  });

  for (const [policy, name] of [
    [1, 'none'],
    [2, 'rr'],
  ] as const) {
    t.test(`cluster workers, scheduling policy ${name}`, async (t) => {
      const primary = fork(proxy, [String(policy)], { execArgv: ['--no-warnings'] });
      t.teardown(async () => {
        const exited = once(primary, 'exit');
        primary.disconnect();
        await exited;
      });
      await once(primary, 'message');
      rules(t, 'inet', redirectChain(15001));
      // Some by the worker that dialled, some by the other one.
      for (let i = 0; i < 5; i++) t.equal(await call(FAR), 'ECONNRESET');
      primary.send('count');
      const [counts] = (await once(primary, 'message')) as [{ accepted: number; refused: number }[]];
      const sum = (key: 'accepted' | 'refused'): number => counts[0]![key] + counts[1]![key];
      // A worker may accept before the other has noted what it dials: then the loop takes another turn. And what
      // was reset by then has no known destination, and ends there as well.
      t.ok(sum('refused') >= 3 && sum('refused') <= 5, `refused ${sum('refused')}`);
      t.ok(sum('accepted') >= 10 && sum('accepted') < 30, `accepted ${sum('accepted')}`);
    });
  }
});
