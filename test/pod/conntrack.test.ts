// What goes wrong in the connection table under live connections: segments that it does not believe, and entries
// that are forgotten.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { flushConntrack } from '../fixtures/connections.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import {
  buildPod,
  dialFromPod,
  failure,
  FAMILIES,
  through,
  type Dial,
  type Through,
} from '../fixtures/pod.ts';
import { sidecarRules } from '../fixtures/sidecar-rules.ts';
import {
  APP_PORT,
  AWAY_PORT,
  awayServer,
  converse,
  CONVERSED,
  podServer,
} from '../fixtures/sidecar-scenarios.ts';
import { startSidecar } from '../fixtures/sidecar.ts';

t.setTimeout(120_000);

/** Sends a few bytes and waits until they have arrived. */
async function pass(t: Test, from: Socket, to: Socket, what: string): Promise<void> {
  const arrival = once(to.resume(), 'data');
  from.write(what);
  t.equal(String((await arrival)[0]), what);
  to.pause();
}

/**
 * One segment of the client's, and not its repetition, gets a sequence number that is 2³⁰ too high. One that is too low
 * conntrack takes for an old segment, which is nothing INVALID.
 */
const SEGMENT = `tcp dport ${APP_PORT} meta length > 700`;
const BENT = `table inet bent {
  chain out {
    type filter hook output priority mangle
    ${SEGMENT} tcp sequence & 0x40000000 == 0 quota until 1400 bytes tcp sequence set tcp sequence ^ 0x40000000 accept
    ${SEGMENT} tcp sequence & 0x40000000 != 0 quota until 1400 bytes tcp sequence set tcp sequence ^ 0xc0000000 accept
  }
}`;

function onClient(...command: string[]): void {
  execFileSync('nsenter', ['--net=/run/netns/client', ...command], { stdio: 'pipe' });
}

async function outOfWindow(t: Test, { left, right }: Through): Promise<void> {
  await pass(t, left, right, 'before');
  onClient('nft', BENT);
  t.teardown(() => onClient('nft', 'delete table inet bent'));
  left.write('x'.repeat(700));
}

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const pod = await buildPod(t);
    const dialFromClient: Dial = (to) => pod.client.dial(to);
    const sidecar = await startSidecar(t, { mode: 'redirect' });

    const live = async (t: Test, address: string): Promise<Through> =>
      through(t, await podServer(t, APP_PORT), dialFromClient, { host: address, port: APP_PORT });

    for (const [name, { pod: own }] of Object.entries(FAMILIES)) {
      await t.test(`${name}: an INVALID segment, nothing done about it`, async (t) => {
        sidecarRules(t, 'redirect');
        const ends = await live(t, own);
        await outOfWindow(t, ends);
        // It was not translated: the pod's host knows no such connection.
        t.equal(await failure(ends.left), 'ECONNRESET');
        // The proxy finds out when it has something to say, and then both sides end.
        t.notOk(ends.right.destroyed);
        ends.right.write('anybody there?');
        t.equal(await failure(ends.right), 'ECONNRESET');
        const ended = { reason: 'reset', fault: 'client', closes: { client: 1, upstream: 1, relay: 1 } };
        t.match(await sidecar.visit(), ended);
      });

      await t.test(`${name}: an INVALID segment, dropped by a rule`, async (t) => {
        sidecarRules(t, 'redirect', { dropInvalid: true });
        const ends = await live(t, own);
        await outOfWindow(t, ends);
        t.equal(String((await once(ends.right.resume(), 'data'))[0]), 'x'.repeat(700), 'it came again');
        t.match(sh('nft list chain inet mesh invalid'), /counter packets [1-9]/);
        ends.right.pause();
        await converse(t, ends);
        t.match(await sidecar.visit(), { ...CONVERSED, up: CONVERSED.up + 706 });
      });
    }

    sidecarRules(t, 'redirect', { dropInvalid: true });

    /** Forgets all connections at a moment when nobody has anything to say, late acknowledgements (40 ms) included. */
    const flushQuietly = async (): Promise<void> => {
      await delay(300);
      flushConntrack();
    };

    await t.test('the table is flushed: whoever was redirected goes on when it speaks first', async (t) => {
      const app = await podServer(t, APP_PORT);
      const server = await awayServer(t, pod, AWAY_PORT);
      for (const { pod: own, away } of Object.values(FAMILIES)) {
        for (const ends of [
          await through(t, app, dialFromClient, { host: own, port: APP_PORT }),
          await through(t, server, dialFromPod, { host: away(3), port: AWAY_PORT }),
        ]) {
          await pass(t, ends.left, ends.right, 'one');
          await flushQuietly();
          await pass(t, ends.left, ends.right, 'two');
          await pass(t, ends.right, ends.left, 'three');
          await converse(t, ends);
          const { up, down } = CONVERSED;
          t.match(await sidecar.visit(), { ...CONVERSED, up: up + 6, down: down + 5 });
        }
      }
    });

    await t.test('the table is flushed and the proxy speaks first: both sides end, once', async (t) => {
      const app = await podServer(t, APP_PORT);
      for (const { pod: own } of Object.values(FAMILIES)) {
        const ends = await through(t, app, dialFromClient, { host: own, port: APP_PORT });
        await pass(t, ends.left, ends.right, 'one');
        await flushQuietly();
        // It goes out from the proxy's own address, and the client knows nobody there.
        ends.right.write('two');
        t.equal(await failure(ends.right), 'ECONNRESET');
        t.match(await sidecar.visit(), {
          reason: 'reset',
          fault: 'client',
          up: 3,
          closes: { client: 1, upstream: 1, relay: 1 },
        });
        ends.left.write('three');
        t.equal(await failure(ends.left), 'ECONNRESET');
      }
    });

    t.same(sidecar.surplus, [], 'nothing closed twice');
  },
  { root: true },
);
