// Many connections at once, and much in one: nothing may be lost, mixed up or held in memory.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { formatEndpoint } from '../../lib/address.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { dialFromPod, FAMILIES, through, V4, type Dial } from '../fixtures/pod.ts';
import { closed } from '../fixtures/relay-world.ts';
import { APP_PORT, AWAY_PORT, localOf, podServer, startMesh } from '../fixtures/sidecar-scenarios.ts';

t.setTimeout(120_000);

const ONCE = { client: 1, upstream: 1, relay: 1 };
const MiB = 2 ** 20;

const BLOCK = Buffer.from(Array.from({ length: 65_536 }, (_, i) => (i * 31 + (i >> 8)) & 255));
const BLOCKS = 1600;

/** A hundred mebibytes, as fast as the stream takes them; tells how much it has taken. */
function pour(socket: Socket): { sent: () => number; hash: string } {
  let sent = 0;
  const more = (): void => {
    while (sent < BLOCKS) {
      sent++;
      if (!socket.write(BLOCK)) {
        socket.once('drain', more);
        return;
      }
    }
    socket.end();
  };
  const hash = createHash('sha256');
  for (let i = 0; i < BLOCKS; i++) hash.update(BLOCK);
  more();
  return { sent: () => sent * BLOCK.length, hash: hash.digest('hex') };
}

/** Waits until a number stands still for a while. */
async function standstill(read: () => number): Promise<number> {
  for (let last = -1, still = 0; ;) {
    await delay(100);
    const now = read();
    still = now === last ? still + 1 : 0;
    if (still === 5) return now;
    last = now;
  }
}

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const { sidecar, dialFromClient, web } = await startMesh(t);

    await t.test('a hundred destinations of each family at once', async (t) => {
      const hosts = Object.values(FAMILIES).flatMap(({ away }) =>
        Array.from({ length: 100 }, (_, i) => away(i + 1)),
      );
      const rights = new Map<string, Socket>();
      const take = (socket: Socket): void => void rights.set(localOf(socket), socket);
      web.on('connection', take);
      t.teardown(() => web.off('connection', take));
      const lefts = await Promise.all(hosts.map((host) => dialFromPod({ host, port: AWAY_PORT })));
      while (rights.size < hosts.length) await once(web, 'connection');
      const destinations = hosts.map((address) => formatEndpoint({ address, port: AWAY_PORT }));
      t.same([...rights.keys()].sort(), [...destinations].sort(), 'each has got its own');
      // Each tells its own name, and must hear its own name.
      for (const [name, right] of rights) right.end(name);
      for (const [i, left] of lefts.entries()) {
        const [said] = (await once(left, 'data')) as [Buffer];
        if (String(said) !== destinations[i]) t.equal(String(said), destinations[i]);
        left.end();
      }
      for (const right of rights.values()) right.resume();
      const visits = await sidecar.visits(hosts.length);
      t.same(visits.map(({ destination }) => destination).sort(), [...destinations].sort());
      t.same(
        visits.filter(
          ({ reason, closes }) => reason !== 'end' || JSON.stringify(closes) !== JSON.stringify(ONCE),
        ),
        [],
      );
    });

    for (const direction of ['down', 'up'] as const) {
      await t.test(`a hundred mebibytes ${direction} to a slow reader`, async (t) => {
        const ends = await through(t, web, dialFromPod, { host: V4.away(1), port: AWAY_PORT });
        const [writer, reader] = direction === 'down' ? [ends.right, ends.left] : [ends.left, ends.right];
        const before = sidecar.resident();
        const poured = pour(writer);
        const held = await standstill(poured.sent);
        t.ok(held < 60 * MiB, `the writer is held up after ${Math.round(held / MiB)} MiB`);
        t.ok(sidecar.resident() - before < 20 * MiB, 'and not by the proxy’s memory');
        const hash = createHash('sha256');
        let received = 0;
        reader.on('data', (chunk: Buffer) => {
          hash.update(chunk);
          received += chunk.length;
        });
        await once(reader, 'end');
        t.equal(received, BLOCKS * BLOCK.length);
        t.equal(hash.digest('hex'), poured.hash);
        writer.resume();
        reader.end();
        t.match(await sidecar.visit(), { reason: 'end', [direction]: received, closes: ONCE });
      });
    }

    await t.test('storms of resets', async (t) => {
      const app = await podServer(t, APP_PORT);
      const closings: Promise<void>[] = [];
      const echo = (socket: Socket): void => {
        socket.on('error', () => {});
        closings.push(closed(socket));
        socket.pipe(socket);
      };
      app.on('connection', echo);
      web.on('connection', echo);
      t.teardown(() => web.off('connection', echo));
      const before = await sidecar.accepted();
      const storm = async (dial: Dial, host: string, port: number, n: number): Promise<void> => {
        const socket = await dial({ host, port });
        socket.on('error', () => {});
        // At once, with something said, after the answer.
        if (n % 3 > 0) socket.write('x'.repeat(1000));
        if (n % 3 > 1) await once(socket, 'data');
        const end = closed(socket);
        socket.resetAndDestroy();
        await end;
      };
      const each = 150;
      const storms = Object.values(FAMILIES).flatMap(({ pod: own, away }) =>
        Array.from({ length: each }, (_, n) => [
          storm(dialFromPod, away(1 + (n % 50)), AWAY_PORT, n),
          storm(dialFromClient, own, APP_PORT, n),
        ]).flat(),
      );
      await Promise.all(storms);
      const visits = await sidecar.visits(storms.length);
      t.equal(await sidecar.accepted(), before + storms.length, 'the proxy has seen all of them');
      t.same(
        visits.filter(({ closes }) => JSON.stringify(closes) !== JSON.stringify(ONCE)),
        [],
        'one close for everybody',
      );
      t.same(
        visits.filter(({ up, down }) => down > up),
        [],
        'no more came back than had gone',
      );
      await Promise.all(closings);
      t.pass('all of those that were reached have ended too');
    });

    t.same(sidecar.surplus, [], 'nothing closed twice');
  },
  { root: true },
);
