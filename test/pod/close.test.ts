// How connections end: by halves, by every error there is, by hundreds of resets at once. Each end is one close for
// everybody concerned, and what one side has sent is what the other has received.
import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import t, { type Test } from 'tap';
import { inNamespace, sh } from '../fixtures/netns.ts';
import {
  dialFromPod,
  failure,
  FAMILIES,
  refused,
  through,
  type Dial,
  type Through,
} from '../fixtures/pod.ts';
import { closed, readAll } from '../fixtures/relay-world.ts';
import { APP_PORT, AWAY_PORT, podServer, startMesh } from '../fixtures/sidecar-scenarios.ts';

t.setTimeout(120_000);

const ONCE = { client: 1, upstream: 1, relay: 1 };
const UP = Buffer.alloc(100_001, 'u');
const DOWN = Buffer.alloc(300_001, 'd');

/** Waits until a socket has received so many bytes, and leaves it open. */
async function receive(socket: Socket, count: number): Promise<void> {
  let received = 0;
  await new Promise<void>((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length;
      if (received === count) resolve();
    });
  });
}

/** Both sides have said something and have heard all of what the other said. */
async function exchanged({ left, right }: Through): Promise<void> {
  left.write(UP);
  right.write(DOWN);
  await Promise.all([receive(left, DOWN.length), receive(right, UP.length)]);
}

/** How many 'close' events a socket emits, once it has emitted one. */
function closes(socket: Socket): Promise<number> {
  let count = 0;
  return new Promise((resolve) => {
    socket.on('close', () => {
      count++;
      setImmediate(() => resolve(count));
    });
  });
}

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const { sidecar, dialFromClient, web } = await startMesh(t);
    const app = await podServer(t, APP_PORT);

    /** The same from outside and to the outside, for both families. */
    const ways: { name: string; server: Server; dial: Dial; host: string; port: number }[] = [];
    for (const [name, { pod: own, away }] of Object.entries(FAMILIES)) {
      ways.push({ name: `${name} inbound`, server: app, dial: dialFromClient, host: own, port: APP_PORT });
      ways.push({ name: `${name} outbound`, server: web, dial: dialFromPod, host: away(5), port: AWAY_PORT });
    }
    const open = (t: Test, { server, dial, host, port }: (typeof ways)[0]): Promise<Through> =>
      through(t, server, dial, { host, port });

    for (const way of ways) {
      await t.test(`${way.name}: half-close, whoever begins`, async (t) => {
        for (const first of ['left', 'right'] as const) {
          const ends = await open(t, way);
          const second = first === 'left' ? 'right' : 'left';
          const words = { left: UP, right: DOWN };
          const counts = [closes(ends.left), closes(ends.right)];
          ends[first].end(words[first]);
          const heard = await readAll(ends[second]);
          t.equal(heard.end, 'fin');
          t.ok(heard.data.equals(words[first]), 'all of it, and then FIN');
          t.notOk(ends[first].readableEnded, 'the other direction is open');
          ends[second].end(words[second]);
          const answer = await readAll(ends[first]);
          t.equal(answer.end, 'fin');
          t.ok(answer.data.equals(words[second]), 'all of the answer');
          const ended = { reason: 'end', up: UP.length, down: DOWN.length, closes: ONCE };
          t.match(await sidecar.visit(), ended, `${first} first`);
          t.same(await Promise.all(counts), [1, 1]);
        }
      });

      await t.test(`${way.name}: a reset is passed on, and what came before is counted`, async (t) => {
        for (const [culprit, fault] of [
          ['left', 'client'],
          ['right', 'upstream'],
        ] as const) {
          const ends = await open(t, way);
          const victim = culprit === 'left' ? ends.right : ends.left;
          const counts = [closes(ends.left), closes(ends.right)];
          await exchanged(ends);
          ends[culprit].resetAndDestroy();
          t.equal(await failure(victim), 'ECONNRESET');
          const ended = { reason: 'reset', fault, up: UP.length, down: DOWN.length, closes: ONCE };
          t.match(await sidecar.visit(), ended);
          t.same(await Promise.all(counts), [1, 1]);
        }
      });

      await t.test(`${way.name}: both reset at the same time`, async (t) => {
        const ends = await open(t, way);
        await exchanged(ends);
        const counts = [closes(ends.left), closes(ends.right)];
        ends.left.resetAndDestroy();
        ends.right.resetAndDestroy();
        const ended = { reason: 'reset', up: UP.length, down: DOWN.length, closes: ONCE };
        t.match(await sidecar.visit(), ended);
        t.same(await Promise.all(counts), [1, 1]);
      });

      await t.test(`${way.name}: a reset after half of it has ended`, async (t) => {
        const ends = await open(t, way);
        await exchanged(ends);
        const heard = once(ends.right, 'end');
        ends.left.end();
        await heard;
        ends.right.resetAndDestroy();
        t.equal(await failure(ends.left), 'ECONNRESET');
        const ended = { reason: 'reset', fault: 'upstream', up: UP.length, down: DOWN.length, closes: ONCE };
        t.match(await sidecar.visit(), ended);
      });
    }

    await t.test('a dial that fails is a reset for the client', async (t) => {
      sh(`
        nsenter --net=/run/netns/remote nft -f - <<'END'
        table inet walls {
          chain in {
            type filter hook input priority 0
            ip daddr ${FAMILIES.IPv4.away(250)} reject with icmp host-unreachable
            ip6 daddr ${FAMILIES.IPv6.away(250)} reject with icmpv6 addr-unreachable
            ip daddr ${FAMILIES.IPv4.away(251)} drop
            ip6 daddr ${FAMILIES.IPv6.away(251)} drop
          }
        }
END
        echo 1 > /proc/sys/net/ipv4/tcp_syn_retries
      `);
      for (const { away } of Object.values(FAMILIES)) {
        for (const [host, port, error] of [
          [away(5), 81, 'ECONNREFUSED'],
          [away(250), AWAY_PORT, 'EHOSTUNREACH'],
          [away(251), AWAY_PORT, 'ETIMEDOUT'],
        ] as const) {
          t.equal(await refused(dialFromPod, { host, port }), 'ECONNRESET', `${host} ${port}`);
          t.match(await sidecar.visit(), { reason: 'error', error, up: 0, down: 0, closes: ONCE });
        }
      }
    });

    await t.test('a client that has gone while the proxy was dialling', async (t) => {
      for (const { away } of Object.values(FAMILIES)) {
        const before = await sidecar.accepted();
        const left = await dialFromPod({ host: away(251), port: AWAY_PORT });
        left.on('error', () => {});
        while ((await sidecar.accepted()) === before);
        left.resetAndDestroy();
        await closed(left);
        const visit = await sidecar.visit();
        t.match(visit, { reason: 'reset', fault: 'client', up: 0, down: 0, closes: ONCE });
        t.equal(visit.error, undefined, 'the dial was given up');
      }
    });

    await t.test('nothing is left of it all', async (t) => {
      t.same(sidecar.surplus, [], 'nothing closed twice');
      const { inbound, outbound } = await sidecar.state();
      t.same(inbound.errors, {});
      t.same(outbound.errors, {});
    });
  },
  { root: true },
);
