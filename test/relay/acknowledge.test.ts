// What acknowledges an upstream's handshake and its answer: bytes that follow anyway where there are some, and at once
// where somebody waits for it.
import { on, once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { createRelayServer } from '../../lib/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

/** What the kernel does of its own accord takes 40 ms, or 200: the quickest of so many tells the two apart. */
const TRIES = 10;

/** A relay server to an upstream that does `serve` for each connection. `decided` is awaited for each decision. */
async function relayTo(t: Test, serve: (socket: Socket) => void, decided: () => Promise<void>) {
  const upstream = createServer(serve).listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  const { port } = upstream.address() as AddressInfo;
  const server = createRelayServer({
    decide: async () => {
      await decided();
      return { action: 'relay', to: { address: '127.0.0.1', port } };
    },
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    upstream.close();
    server.destroy();
  });
  return { upstream, dial: () => connect(server.address()!.port, '127.0.0.1').on('error', () => {}) };
}

/** Milliseconds of the quickest of some tries, one after the other. */
async function quickest(attempt: () => Promise<void>): Promise<number> {
  let best = Infinity;
  for (let i = 0; i < TRIES; i++) {
    const began = performance.now();
    await attempt();
    best = Math.min(best, performance.now() - began);
  }
  return best;
}

/** How many segments a socket has received, SYN and those without data included. */
function segmentsIn({ localPort, remotePort }: Socket): number {
  return Number(/ segs_in:(\d+)/.exec(sh(`ss -tinH 'sport = ${localPort} and dport = ${remotePort}'`))![1]);
}

await inNamespace(t, import.meta.url, async () => {
  await t.test('bytes of the client are the first that follows the SYN', async (t) => {
    let written: Promise<unknown> = Promise.resolve();
    const { upstream, dial } = await relayTo(
      t,
      () => {},
      async () => void (await written),
    );
    const client = dial();
    written = new Promise((resolve) => client.write('a request', resolve));
    const [accepted] = (await once(upstream, 'connection')) as [Socket];
    const [bytes] = (await once(accepted, 'data')) as [Buffer];
    t.equal(String(bytes), 'a request');
    t.equal(segmentsIn(accepted), 2);
    client.destroy();
  });

  await t.test('a server that speaks first does not wait for the client', async (t) => {
    const { dial } = await relayTo(
      t,
      (socket) => socket.end('a greeting'),
      async () => {},
    );
    const ms = await quickest(async () => {
      const client = dial();
      const [bytes] = (await once(client, 'data')) as [Buffer];
      t.equal(String(bytes), 'a greeting');
      client.destroy();
    });
    t.ok(ms < 100, `${ms} ms`);
  });

  await t.test('an answer in two halves, the second of which waits for the first', async (t) => {
    const { dial } = await relayTo(
      t,
      (socket) => {
        socket.once('data', () => {
          // Nagle's algorithm holds the second back until the first has been acknowledged. FIN would push it on.
          socket.write('half, ');
          socket.write('and half');
        });
      },
      async () => {},
    );
    const ms = await quickest(async () => {
      const client = dial();
      client.write('a request');
      let answer = '';
      for await (const [bytes] of on(client, 'data') as AsyncIterable<[Buffer]>) {
        answer += String(bytes);
        if (answer.length === 14) break;
      }
      t.equal(answer, 'half, and half');
      client.destroy();
    });
    t.ok(ms < 35, `${ms} ms`);
  });
});
