// createRelayServer({ threads }): several accept from one socket, by turns, and are one server in all else.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import {
  type ConnectionRecord,
  createRelayServer,
  type RelayServer,
  type RelayServerOptions,
} from '../../lib/index.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { relayNetwork, start, talk, until } from '../fixtures/relay-network.ts';
import { closed } from '../fixtures/relay-world.ts';

const THREADS = 3;
const FAR = '198.51.100.7';

async function serverWith(t: Test, options: Partial<RelayServerOptions>): Promise<RelayServer> {
  const server = await start({ mark: 7, decide: () => 'relay', threads: THREADS, ...options });
  t.teardown(async () => {
    server.destroy();
    await server[Symbol.asyncDispose]();
  });
  return server;
}

function dial(): Socket {
  return connect({ port: 7000, host: FAR }).on('error', () => {});
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0);

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);

  for (const [who, ttl] of Object.entries({ 'by decide': 0, 'by lasting verdict': 60_000 })) {
    t.test(`every thread has its share, ${who}`, async (t) => {
      let asked = 0;
      const server = await serverWith(t, {
        decide: () => {
          asked++;
          return ttl === 0 ? 'relay' : { action: 'relay', ttl };
        },
      });
      const records: ConnectionRecord[] = [];
      server.on('records', (batch) => records.push(...batch));
      // A thread that a busy machine has not let run yet takes no turn.
      let early = 0;
      do {
        await talk(FAR, 7000, 'the first is asked about');
        early++;
      } while (early < 2000 && server.stats.acceptedByThread.includes(0));
      const before = server.stats.acceptedByThread;
      const count = 60;
      const all = early + count;
      // One after the other: a thread that is idle could have them all.
      const open: Socket[] = [];
      for (let i = 0; i < count; i++) {
        const socket = dial();
        open.push(socket);
        socket.write('?');
        await once(socket, 'data');
      }
      const { acceptedByThread, accepted, relayed, redirect } = server.stats;
      t.equal(acceptedByThread.length, THREADS);
      for (const share of acceptedByThread.map((now, thread) => now - before[thread]!))
        t.ok(share >= count / THREADS / 2, `${share} of ${count}`);
      t.same([accepted, relayed, redirect, sum(acceptedByThread)], [all, all, all, all]);
      await until(() => server.stats.open === count);
      t.equal(server.stats.open, count);
      t.equal(asked, ttl === 0 ? all : 1, 'the verdict is known to all of them');
      for (const socket of open) socket.destroy();
      await until(() => records.length === all);
      t.equal(records.length, all);
      t.equal(sum(server.stats.connectMs.counts), all);
      t.equal(records.filter(({ lasting }) => lasting).length, ttl === 0 ? 0 : all - 1);
    });
  }

  t.test('limits are of all threads together', async (t) => {
    const server = await serverWith(t, { decide: () => ({ action: 'relay', ttl: 60_000 }), maxPerClient: 4 });
    await talk(FAR, 7000, 'the first');
    await until(() => server.stats.open === 0);
    const clients = Array.from({ length: 12 }, dial);
    await until(() => server.stats.accepted === 13);
    t.equal(server.stats.open, 4);
    t.same(server.stats.refused, { ERR_MAX_PER_CLIENT: 8 });
    for (const client of clients) client.destroy();
  });

  t.test('names, slow decisions and clients that go meanwhile', async (t) => {
    const pending: (() => void)[] = [];
    const server = await serverWith(t, {
      inspect: { timeout: 60_000 },
      decide: (_destination, _client, first) =>
        new Promise((resolve) => pending.push(() => resolve(first?.protocol === 'http' ? 'relay' : 'reset'))),
    });
    const clients = Array.from({ length: 9 }, dial);
    for (const client of clients) client.write('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
    await until(() => pending.length === clients.length);
    const gone = clients.splice(0, 4);
    for (const client of gone) client.resetAndDestroy();
    await until(() => server.stats.gone === gone.length);
    t.equal(server.stats.gone, gone.length, 'whoever has accepted them has seen it');
    for (const decide of pending) decide();
    for (const client of clients) await once(client, 'data');
    t.equal(server.stats.open, clients.length);
    for (const client of clients) client.destroy();
  });

  t.test('close() waits for all, destroy() ends them all', async (t) => {
    const before = openSockets();
    for (const how of ['close', 'destroy'] as const) {
      const server = await serverWith(t, { decide: () => ({ action: 'relay', ttl: 60_000 }) });
      const clients = Array.from({ length: 9 }, dial);
      for (const client of clients) client.write('?');
      await Promise.all(clients.map((client) => once(client, 'data')));
      let over = false;
      server.once('close', () => (over = true))[how]();
      if (how === 'close') {
        for (const client of clients) {
          t.equal(over, false);
          client.end('!');
          await closed(client);
        }
      }
      if (!over) await once(server, 'close');
      t.equal(server.stats.accepted, 9, 'known afterwards');
      t.equal(server.stats.open, 0);
      for (const client of clients) client.destroy();
    }
    t.same(await socketsLeft(before), []);
  });

  t.test('revoke() is for all', async (t) => {
    let action: 'relay' | 'reset' = 'relay';
    const server = await serverWith(t, { decide: () => ({ action, ttl: 60_000 }) });
    for (let i = 0; i < 6; i++) t.equal((await talk(FAR, 7000, 'in')).end, 'fin');
    action = 'reset';
    server.revoke();
    for (let i = 0; i < 6; i++) t.equal((await talk(FAR, 7000, 'out')).end, 'ECONNRESET');
    t.equal(server.stats.undecided, 2);
  });

  t.test('bad numbers', (t) => {
    for (const threads of [0, 65, 1.5])
      t.throws(() => createRelayServer({ decide: () => 'relay', threads }), { code: 'ERR_OUT_OF_RANGE' });
    t.throws(() => createRelayServer({ decide: () => 'relay', threads: '2' as never }), {
      code: 'ERR_INVALID_ARG_TYPE',
    });
    t.end();
  });
});
