// createRelayServer(): how many connections it takes on, with lasting verdicts and without. What goes beyond gets RST.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { createRelayServer, type RelayServer, type RelayServerOptions } from '../../lib/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { relayNetwork, start, until } from '../fixtures/relay-network.ts';

const decide = (): 'relay' => 'relay';
const lasting = () => ({ action: 'relay' as const, ttl: 60_000 });

interface Client {
  socket: Socket;
  /** `served` once the echo server has answered, else the error's code. */
  fate: Promise<string>;
}

function dial(from = '192.0.2.1', to = from.includes(':') ? '2001:db8::2' : '198.51.100.7'): Client {
  const socket = connect({ host: to, port: 7000, localAddress: from });
  const fate = new Promise<string>((resolve) => {
    socket.once('data', () => resolve('served'));
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code!));
  });
  socket.write('?');
  return { socket, fate };
}

async function serverWith(t: Test, options: Partial<RelayServerOptions>): Promise<RelayServer> {
  const server = await start({ mark: 7, decide, ...options });
  t.teardown(async () => {
    server.destroy();
    await server[Symbol.asyncDispose]();
  });
  return server;
}

/** Makes the thread go on by itself: the first connection is decided about, and the next are not. */
async function warm(t: Test): Promise<void> {
  const { socket, fate } = dial();
  t.equal(await fate, 'served');
  socket.end();
  await once(socket, 'close');
}

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);
  sh(`
    ip addr add 192.0.2.11/24 dev near
    ip -6 addr add 2001:db8::11/64 dev near nodad
    ip -6 addr add 2001:db8:0:1::1/64 dev near nodad
    ip -n far -6 route add 2001:db8:0:1::/64 dev far
  `);

  for (const [who, policy] of Object.entries({ 'by decide': decide, 'by lasting verdict': lasting })) {
    t.test(`maxConnections, ${who}`, async (t) => {
      const server = await serverWith(t, { decide: policy, maxConnections: 2 });
      await warm(t);
      await until(() => server.stats.open === 0);
      const [one, two] = [dial(), dial()];
      t.same([await one.fate, await two.fate], ['served', 'served']);
      t.equal(await dial().fate, 'ECONNRESET');
      t.match(server.stats, { open: 2, accepted: 4, refused: { ERR_MAX_CONNECTIONS: 1 } });
      one.socket.destroy();
      await until(() => server.stats.open === 1);
      const three = dial();
      t.equal(await three.fate, 'served', 'there is room again');
      for (const { socket } of [two, three]) socket.destroy();
    });

    t.test(`maxPerClient, ${who}`, async (t) => {
      const server = await serverWith(t, { decide: policy, maxPerClient: 1 });
      const sources = ['192.0.2.1', '192.0.2.11', '2001:db8::1', '2001:db8:0:1::1'];
      const first = sources.map((from) => dial(from));
      for (const { fate } of first) t.equal(await fate, 'served');
      for (const from of ['192.0.2.1', '192.0.2.11', '2001:db8::11', '2001:db8:0:1::1'])
        t.equal(await dial(from).fate, 'ECONNRESET', from);
      t.same(server.stats.refused, { ERR_MAX_PER_CLIENT: 4 });
      first[1]!.socket.destroy();
      await until(() => server.stats.open === 3);
      const again = dial('192.0.2.11');
      t.equal(await again.fate, 'served');
      t.equal(await dial('192.0.2.1').fate, 'ECONNRESET', 'the other has as many as before');
      for (const { socket } of [...first, again]) socket.destroy();
    });

    t.test(`maxRatePerClient, ${who}`, async (t) => {
      // Two that are dialled in one breath are there within a second.
      const server = await serverWith(t, { decide: policy, maxRatePerClient: 1 });
      const [one, two, other] = [dial(), dial(), dial('192.0.2.11')];
      const fates = [await one.fate, await two.fate];
      t.same(fates.sort(), ['ECONNRESET', 'served']);
      t.equal(await other.fate, 'served');
      t.same(server.stats.refused, { ERR_MAX_RATE_PER_CLIENT: 1 });
      for (const { socket } of [one, two, other]) socket.destroy();
      // A second later there is room.
      let again = dial();
      for (let i = 0; i < 100 && (await again.fate) !== 'served'; i++) {
        await sleep(50);
        again = dial();
      }
      t.equal(await again.fate, 'served');
      again.socket.destroy();
    });
  }

  t.test('maxPending', async (t) => {
    const waiting: (() => void)[] = [];
    const server = await serverWith(t, {
      decide: () => new Promise((resolve) => waiting.push(() => resolve('relay'))),
      maxPending: 2,
    });
    const [one, two] = [dial(), dial()];
    await until(() => waiting.length === 2);
    t.equal(await dial().fate, 'ECONNRESET');
    t.same(server.stats.refused, { ERR_MAX_PENDING: 1 });
    waiting[0]!();
    t.equal(await one.fate, 'served');
    const three = dial();
    await until(() => waiting.length === 3);
    two.socket.resetAndDestroy();
    await until(() => server.stats.gone === 1);
    waiting[2]!();
    t.equal(await three.fate, 'served');
    const four = dial();
    await until(() => waiting.length === 4);
    waiting[3]!();
    t.equal(await four.fate, 'served', 'what is gone is not pending');
    for (const { socket } of [one, three, four]) socket.destroy();
  });

  t.test('maxPending, with first bytes that do not come', async (t) => {
    const server = await serverWith(t, { maxPending: 1, inspect: {} });
    const silent = connect(7000, '198.51.100.7');
    await until(() => server.stats.inspecting === 1);
    const second = dial();
    t.equal(await second.fate, 'ECONNRESET');
    t.same(server.stats.refused, { ERR_MAX_PENDING: 1 });
    const decided = once(server, 'relay');
    silent.end('no hello, and no more');
    await decided;
    const third = dial();
    third.socket.write('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
    t.equal(await third.fate, 'served');
    for (const socket of [silent, third.socket]) socket.destroy();
  });

  t.test('what the program or nobody has does not count', async (t) => {
    const answers = ['emit', 'reset', 'relay'] as const;
    let asked = 0;
    const server = await serverWith(t, { decide: () => answers[asked++]!, maxConnections: 1 });
    const emitted = once(server, 'connection') as Promise<[Socket]>;
    const own = connect(7000, '198.51.100.7').on('error', () => {});
    const [socket] = await emitted;
    t.equal(await dial().fate, 'ECONNRESET', 'decide said so');
    const last = dial();
    t.equal(await last.fate, 'served');
    t.same(server.stats.refused, {});
    for (const each of [own, socket, last.socket]) each.destroy();
  });

  t.test('more clients than there is room for at first', async (t) => {
    sh('ip route add local 10.99.0.0/16 dev lo; ip -n far route add 10.99.0.0/16 via 192.0.2.1');
    const server = await serverWith(t, { decide: lasting, maxPerClient: 1, maxRatePerClient: 1000 });
    for (const round of [0, 1]) {
      const clients = Array.from({ length: 300 }, (_, i) => dial(`10.99.${i >> 8}.${i & 255}`));
      for (const { fate } of clients) if ((await fate) !== 'served') t.fail(`round ${round}: ${await fate}`);
      t.equal(await dial('10.99.1.5').fate, 'ECONNRESET');
      t.same(server.stats.refused, { ERR_MAX_PER_CLIENT: round + 1 });
      for (const { socket } of clients) socket.destroy();
      await until(() => server.stats.open === 0);
    }
  });
});

t.test('limits that are none', async (t) => {
  for (const name of ['maxConnections', 'maxPending', 'maxPerClient', 'maxRatePerClient'] as const) {
    t.throws(() => createRelayServer({ decide, [name]: -1 }), { code: 'ERR_OUT_OF_RANGE' });
    t.throws(() => createRelayServer({ decide, [name]: '5' } as never), { code: 'ERR_INVALID_ARG_TYPE' });
  }
});
