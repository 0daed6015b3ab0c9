// 10,000 relays at once, or as many as the limit of descriptors (two for each) allows.
import { fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { relay, type Relay } from '../../lib/index.ts';

const ENDS = fileURLToPath(new URL('../fixtures/programs/many-ends.js', import.meta.url));

const limit = spawnSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).stdout.trim();
const descriptors = limit === 'unlimited' ? Infinity : Number(limit);
const count = Math.min(10_000, Math.floor((descriptors - 200) / 2));

t.test(`${count} relays at once`, async (t) => {
  const server = createServer({ allowHalfOpen: true });
  server.listen(0, '127.0.0.1', 4096);
  await once(server, 'listening');
  // The clients and the server behind the proxy: another process, with descriptors of its own.
  const ends = fork(ENDS, [String((server.address() as AddressInfo).port), String(count)]);
  const [serverPort] = (await once(ends, 'message')) as [number];
  const relays: Relay[] = [];
  let closed = 0;
  const allClosed = new Promise<void>((resolve) => {
    server.on('connection', (client: Socket) => {
      const upstream = connect({ port: serverPort, host: '127.0.0.1', allowHalfOpen: true });
      const joined = relay(client, upstream);
      relays.push(joined);
      joined.once('close', ({ reason }) => {
        if (reason !== 'end') t.fail(`ended with ${reason}`);
        if (++closed === count) resolve();
      });
    });
  });
  // Every client has its own words back: all relays are open at this moment.
  t.same(await once(ends, 'message'), [{ echoed: count, wrong: 0 }, undefined]);
  t.equal(relays.length, count);
  t.equal(relays.filter((one) => one.outcome === undefined).length, count);
  t.ok(relays.every((one) => one.bytesToUpstream === one.bytesToClient && one.bytesToUpstream > 0));
  ends.send('end');
  await allClosed;
  server.close();
  t.same(await once(ends, 'exit'), [0, null]);
});
