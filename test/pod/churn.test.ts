// Many connections, one after another and all together: what they took is given back.
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { inNamespace } from '../fixtures/netns.ts';
import { dialFromPod, through, V4 } from '../fixtures/pod.ts';
import { closed } from '../fixtures/relay-world.ts';
import { AWAY_PORT, converse, CONVERSED, startMesh } from '../fixtures/sidecar-scenarios.ts';

t.setTimeout(120_000);

const MiB = 2 ** 20;

/** A server that says one word and hangs up. */
function brief(t: Test, server: Server): void {
  const answer = (socket: Socket): void => {
    socket.on('error', () => {}).resume();
    socket.end('word');
  };
  server.on('connection', answer);
  t.teardown(() => server.off('connection', answer));
}

async function ask(host: string): Promise<string> {
  const socket = await dialFromPod({ host, port: AWAY_PORT });
  let word = '';
  socket.on('data', (data) => (word += String(data))).on('end', () => socket.end());
  await once(socket, 'close');
  return word;
}

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const { sidecar, web } = await startMesh(t);
    const idle = sidecar.descriptors();

    /** How many descriptors there are when the last of those that are closing is closed. */
    const settled = async (most: number): Promise<number> => {
      for (let attempt = 0; attempt < 500 && sidecar.descriptors() > most; attempt++) await delay(10);
      return sidecar.descriptors();
    };

    await t.test('a thousand at once and ten thousand in turn leave nothing behind', async (t) => {
      brief(t, web);
      const { away } = V4;
      const crowd = async (): Promise<void> => {
        const lefts = await Promise.all(
          Array.from({ length: 1000 }, (_, i) => dialFromPod({ host: away(1 + (i % 200)), port: AWAY_PORT })),
        );
        // None of them has said FIN: two descriptors each, as soon as the proxy has taken them all.
        const target = idle + 2 * lefts.length;
        for (let attempt = 0; attempt < 1000 && sidecar.descriptors() < target; attempt++) await delay(10);
        t.ok(sidecar.descriptors() >= target, 'a thousand are open');
        const ends = lefts.map(async (left) => {
          const end = closed(left);
          left.on('error', () => {}).resume();
          left.end();
          await end;
        });
        await Promise.all(ends);
        const visits = await sidecar.visits(1000);
        t.same(
          visits.filter(({ reason, down }) => reason !== 'end' || down !== 4),
          [],
        );
      };
      // Twice: the first fills what is kept for ever, and is what the others are compared with.
      await crowd();
      await crowd();
      const descriptors = await settled(idle + 16);
      const { heap } = await sidecar.state();
      const memory = sidecar.resident();

      const sequential = 10_000;
      let wrong = 0;
      for (let i = 0; i < sequential; i++) if ((await ask(away(1 + (i % 200)))) !== 'word') wrong++;
      t.equal(wrong, 0);
      const visits = await sidecar.visits(sequential);
      t.same(
        visits.filter(({ reason, down }) => reason !== 'end' || down !== 4),
        [],
      );
      await crowd();

      t.ok((await settled(descriptors)) <= descriptors, 'no descriptor is left open');
      t.ok((await sidecar.state()).heap - heap < 2 * MiB, 'no object is kept');
      t.ok(sidecar.resident() - memory < 32 * MiB, 'no memory is lost');
    });

    await t.test('and a connection is what it was', async (t) => {
      const ends = await through(t, web, dialFromPod, { host: V4.away(7), port: AWAY_PORT });
      await converse(t, ends);
      t.match(await sidecar.visit(), CONVERSED);
      t.same(sidecar.surplus, [], 'nothing closed twice');
    });
  },
  { root: true },
);
