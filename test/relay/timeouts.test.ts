// The times that there are by default, as their documentation says: nothing waits without a limit.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { connect, createRelayServer, relay } from '../../lib/index.ts';
import { readTimeouts } from '../../lib/relay/timeouts.ts';
import { sh } from '../fixtures/netns.ts';
import { world } from '../fixtures/relay-world.ts';

t.match(readTimeouts({}), { idle: 7_440_000, halfClose: 240_000, connect: 10_000, deadPeer: 120_000 });

/** The times that timers are set to from here on. */
function timersOf(t: Test): number[] {
  const { setTimeout } = globalThis;
  const times: number[] = [];
  const value = (callback: () => void, ms: number): NodeJS.Timeout => {
    times.push(ms);
    return setTimeout(callback, ms);
  };
  t.intercept(globalThis, 'setTimeout', { value: value as typeof setTimeout });
  return times;
}

t.test('a decision', async (t) => {
  const times = timersOf(t);
  let asked = (): void => {};
  const question = new Promise<void>((resolve) => (asked = resolve));
  const server = createRelayServer({
    decide: () => {
      asked();
      return new Promise(() => {});
    },
  }).listen(0, '127.0.0.1');
  t.teardown(() => server.destroy());
  await once(server, 'listening');
  const client = connect({ address: '127.0.0.1', port: server.address()!.port });
  client.on('error', () => {});
  t.ok(times.includes(10_000), 'and a dial');
  await question;
  t.ok(times.includes(30_000));
});

for (const engine of ['native', 'pipe'] as const) {
  t.test(`${engine}: a silent peer, at both ends`, async (t) => {
    const { client, upstream } = await world(t);
    const ends = [client, upstream].map(
      ({ localPort, remotePort }: Socket) => `sport = ${localPort} and dport = ${remotePort}`,
    );
    const probed = (): boolean[] =>
      ends.map((end) => sh(`ss -Htno state established '${end}'`).includes('timer:(keepalive'));
    t.same(probed(), [false, false]);
    const joined = relay(client, upstream, { engine, deadPeerTimeout: 2000 });
    for (let i = 0; i < 500 && probed().includes(false); i++) await delay(20);
    t.same(probed(), [true, true]);
    joined.destroy();
    await once(joined, 'close');
  });
}
