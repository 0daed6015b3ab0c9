// More datagrams than can be read.
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { createDatagramSocket } from '../../lib/index.ts';
import { inNamespace } from '../fixtures/netns.ts';

const COUNT = 100_000;

/** Sends numbered datagrams as fast as it can, from a thread of its own; resolves with how many the kernel took. */
async function flood(port: number, count: number): Promise<number> {
  const worker = new Worker(
    `
    const { createSocket } = require('node:dgram');
    const { parentPort, workerData: { port, count } } = require('node:worker_threads');
    const socket = createSocket('udp4');
    let sent = 0;
    let failed = 0;
    const done = (error) => {
      if (error) failed++;
      if (++sent === count) {
        socket.close();
        parentPort.postMessage(count - failed);
      }
    };
    socket.connect(port, '127.0.0.1', () => {
      let i = 0;
      const burst = () => {
        for (const end = Math.min(i + 500, count); i < end; i++) {
          const data = Buffer.allocUnsafe(4);
          data.writeUInt32LE(i);
          socket.send(data, done);
        }
        if (i < count) setImmediate(burst);
      };
      burst();
    });
    `,
    { eval: true, workerData: { port, count } },
  );
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

await inNamespace(t, import.meta.url, async () => {
  for (const { name, receiveBufferSize, work } of [
    { name: 'a handler that keeps up', receiveBufferSize: 16 << 20, work: 0 },
    { name: 'a handler that does not', receiveBufferSize: 20_000, work: 0.02 },
  ]) {
    t.test(`${COUNT} datagrams, ${name}: received and dropped are sent`, async (t) => {
      const socket = createDatagramSocket({ address: '127.0.0.1', receiveBufferSize });
      t.teardown(() => socket.close());
      let received = 0;
      const seen = new Uint8Array(COUNT);
      socket.on('message', (data) => {
        received++;
        seen[data.readUInt32LE()]!++;
        const until = performance.now() + work;
        while (performance.now() < until);
      });
      const sent = await flood(socket.address().port, COUNT);
      t.ok(sent > 0);
      for (let i = 0; i < 200 && received + socket.stats.dropped < sent; i++) await sleep(10);
      const { direct, dropped, errors } = socket.stats;
      t.equal(received + dropped, sent, `${received} received + ${dropped} dropped`);
      t.equal(direct, received);
      t.ok(
        seen.every((times) => times <= 1),
        'none twice',
      );
      t.same(errors, {});
      if (work > 0) t.ok(dropped > 0);
      socket.close();
      t.equal(socket.stats.dropped, dropped, 'the count outlives the socket');
    });
  }

  t.test('a flood does not starve the event loop', async (t) => {
    const socket = createDatagramSocket({ address: '127.0.0.1' });
    t.teardown(() => socket.close());
    let received = 0;
    let ticks = 0;
    socket.on('message', () => {
      received++;
      const until = performance.now() + 0.05;
      while (performance.now() < until);
    });
    const timer = setInterval(() => ticks++, 10);
    t.teardown(() => clearInterval(timer));
    await flood(socket.address().port, COUNT / 4);
    t.ok(ticks >= 3, `${ticks} timers among ${received} datagrams`);
  });

  t.test('an unreferenced socket is read to the end too', async (t) => {
    const socket = createDatagramSocket({ address: '127.0.0.1', receiveBufferSize: 1 << 20 });
    t.teardown(() => socket.close());
    socket.unref().pause();
    let received = 0;
    socket.on('message', () => received++);
    const sent = await flood(socket.address().port, 1000);
    socket.resume();
    for (let i = 0; i < 200 && received + socket.stats.dropped < sent; i++) await sleep(10);
    t.equal(received + socket.stats.dropped, sent);
  });
});
