// How many connections twenty local ports are enough for.
import { once } from 'node:events';
import { connect as netConnect, type Server, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { canonicalAddress } from '../../lib/address.ts';
import { connect } from '../../lib/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { buildPod, FAMILIES, refused, through, type Dial } from '../fixtures/pod.ts';
import { sidecarRules } from '../fixtures/sidecar-rules.ts';
import { APP_PORT, AWAY_PORT, awayServer, podServer } from '../fixtures/sidecar-scenarios.ts';
import { startSidecar } from '../fixtures/sidecar.ts';

t.setTimeout(120_000);

const FIRST = 50_000;
const PORTS = 20;

/** Dials until it fails: how often it did not, and why it did. */
async function exhaust(t: Test, dial: () => Socket): Promise<{ made: number; code: string }> {
  for (let made = 0; made <= 2 * PORTS; made++) {
    const socket = dial();
    t.teardown(() => socket.destroy());
    try {
      await once(socket, 'connect');
    } catch (error) {
      return { made, code: (error as NodeJS.ErrnoException).code! };
    }
  }
  return { made: Infinity, code: '' };
}

/** Connections that wait in nobody's hands until the test ends. */
function hold(t: Test, server: Server): void {
  server.on('connection', (socket: Socket) => {
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
  });
}

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const pod = await buildPod(t);
    const dialFromClient: Dial = (to) => pod.client.dial(to);
    const setPorts = (first: number, last: number): string =>
      `echo ${first} ${last} > /proc/sys/net/ipv4/ip_local_port_range`;
    sh(setPorts(FIRST, FIRST + PORTS - 1));
    // None that the sidecar dials from with the client's address; see the last test.
    sh(`nsenter --net=/run/netns/client sh -c '${setPorts(FIRST - 10_000, FIRST - 1)}'`);

    for (const [name, { out, away }] of Object.entries(FAMILIES)) {
      await t.test(`${name}: a source without a port costs one port per destination`, async (t) => {
        const server = await awayServer(t, pod, AWAY_PORT);
        hold(t, server);
        for (const host of [1, 2]) {
          t.same(
            await exhaust(t, () =>
              connect({ address: away(host), port: AWAY_PORT, source: { address: out } }),
            ),
            { made: PORTS, code: 'EADDRNOTAVAIL' },
            `destination ${host}`,
          );
        }
      });

      await t.test(`${name}: bind(2) as it is costs one port whatever the destination`, async (t) => {
        const server = await awayServer(t, pod, AWAY_PORT + 1);
        hold(t, server);
        const dial = (host: number) => (): Socket =>
          netConnect({ host: away(host), port: AWAY_PORT + 1, localAddress: out });
        t.same(await exhaust(t, dial(1)), { made: PORTS, code: 'EADDRINUSE' });
        t.same(await exhaust(t, dial(2)), { made: 0, code: 'EADDRINUSE' }, 'the other destination has none');
      });
    }

    for (const mode of ['redirect', 'tproxy'] as const) {
      await t.test(`${mode}: the sidecar reaches each of two programs by every port`, async (t) => {
        const sidecar = await startSidecar(t, { mode });
        sidecarRules(t, mode);
        const servers = [await podServer(t, APP_PORT), await podServer(t, APP_PORT + 1)];
        for (const { pod: own, client, passthrough } of Object.values(FAMILIES)) {
          for (const [i, server] of servers.entries()) {
            const port = APP_PORT + i;
            const seen = new Set<string>();
            for (let n = 0; n < PORTS; n++) {
              const { right } = await through(t, server, dialFromClient, { host: own, port });
              seen.add(`${canonicalAddress(right.remoteAddress!)!} ${right.remotePort}`);
            }
            const source = mode === 'redirect' ? passthrough : client;
            t.same(
              [...seen].sort(),
              Array.from({ length: PORTS }, (_, n) => `${source} ${FIRST + n}`),
              `${own} ${port}: all of them`,
            );
            // One more than there are ports: an error for both sides, not a wait.
            t.equal(await refused(dialFromClient, { host: own, port }), 'ECONNRESET');
            t.match(await sidecar.visit(), {
              reason: 'error',
              error: 'EADDRNOTAVAIL',
              closes: { client: 1, upstream: 1, relay: 1 },
            });
          }
        }
      });
    }

    await t.test('tproxy: a port that the sidecar dials from is the client’s no more', async (t) => {
      await startSidecar(t, { mode: 'tproxy' });
      sidecarRules(t, 'tproxy');
      // Not one that the tests before have left waiting (TIME_WAIT) at every port that there is to dial from.
      const server = await podServer(t, APP_PORT + 2);
      for (const { pod: host } of Object.values(FAMILIES)) {
        const to = { host, port: APP_PORT + 2 };
        const first = await through(t, server, dialFromClient, to);
        // Its SYN is sent again after 1 s and 3 s: once the first has ended it may be answered, and reset.
        const answered = dialFromClient({ ...to, localPort: first.right.remotePort! }).then(
          (second) => second.on('error', () => {}).destroy(),
          () => true,
        );
        t.equal(await Promise.race([answered, setTimeout(1500, false)]), false, `${host}: waits`);
        first.left.write('x');
        t.equal(String(await once(first.right, 'data')), 'x', 'the first is not harmed');
      }
    });
  },
  { root: true },
);
