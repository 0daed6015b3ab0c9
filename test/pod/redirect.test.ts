// A pod behind a mesh's rules, in REDIRECT mode: what is captured, what is not, and what must not loop.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import { canonicalAddress, formatEndpoint } from '../../lib/address.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { buildPod, dialFromPod, FAMILIES, refused, through, V4, V6, type Dial } from '../fixtures/pod.ts';
import { sidecarRules } from '../fixtures/sidecar-rules.ts';
import {
  APP_PORT,
  AWAY_PORT,
  awayServer,
  bypasses,
  byPackageRules,
  converse,
  CONVERSED,
  inbound,
  localOf,
  outbound,
  ownAddress,
  podServer,
} from '../fixtures/sidecar-scenarios.ts';
import { startSidecar } from '../fixtures/sidecar.ts';

t.setTimeout(120_000);

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const pod = await buildPod(t);
    const sidecar = await startSidecar(t, { mode: 'redirect' });
    const dialFromClient: Dial = (to) => pod.client.dial(to);

    await t.test('by the rules of the package', (t) => byPackageRules(t, pod, sidecar, 'redirect'));

    sidecarRules(t, 'redirect');

    await t.test('inbound', (t) => inbound(t, pod, sidecar, 'redirect'));
    await t.test('outbound', (t) => outbound(t, pod, sidecar));
    await t.test('bypasses', (t) => bypasses(t, pod, sidecar));
    await t.test('the proxy dials the pod’s own address', (t) => ownAddress(t, sidecar, 'redirect'));

    await t.test('one listener for both families', async (t) => {
      const server = await awayServer(t, pod, AWAY_PORT);
      const dials = [V4.away(1), V6.away(1), V4.away(2), V6.away(2)];
      const ends = [];
      for (const host of dials) ends.push(await through(t, server, dialFromPod, { host, port: AWAY_PORT }));
      await Promise.all(ends.map((pair) => converse(t, pair)));
      const visits = await sidecar.visits(dials.length);
      t.same(
        visits.map(({ destination }) => destination).sort(),
        dials.map((address) => formatEndpoint({ address, port: AWAY_PORT })).sort(),
      );
      // On the dual-stack listener they are ::ffff:127.0.0.1 and ::1.
      t.same([...new Set(visits.map(({ local }) => local))].sort(), ['127.0.0.1:15001', '[::1]:15001']);
    });

    await t.test(
      'one client port, two destinations: what NAT gives a new port keeps its destination',
      async (t) => {
        const server = await awayServer(t, pod, AWAY_PORT);
        const app = [await podServer(t, APP_PORT), await podServer(t, APP_PORT + 1)] as const;
        for (const { pod: own, away } of Object.values(FAMILIES)) {
          const outward = [
            await through(t, server, dialFromPod, { host: away(1), port: AWAY_PORT, localPort: 40_000 }),
            await through(t, server, dialFromPod, { host: away(2), port: AWAY_PORT, localPort: 40_000 }),
          ];
          const inward = [
            await through(t, app[0], dialFromClient, { host: own, port: APP_PORT, localPort: 40_001 }),
            await through(t, app[1], dialFromClient, { host: own, port: APP_PORT + 1, localPort: 40_001 }),
          ];
          for (const [ends, destinations, port] of [
            [outward, [away(1), away(2)].map((address) => ({ address, port: AWAY_PORT })), ':40000'],
            [inward, [APP_PORT, APP_PORT + 1].map((port) => ({ address: own, port })), ':40001'],
          ] as const) {
            for (const [i, pair] of ends.entries()) {
              t.ok(localOf(pair.left).endsWith(port));
              t.equal(localOf(pair.right), formatEndpoint(destinations[i]!));
            }
            await Promise.all(ends.map((pair) => converse(t, pair)));
            const visits = await sidecar.visits(2);
            t.same(
              visits.map(({ destination }) => destination).sort(),
              destinations.map((destination) => formatEndpoint(destination)).sort(),
            );
            t.equal(
              visits.filter(({ peer }) => peer.endsWith(port)).length,
              1,
              'the other one has another port',
            );
            for (const visit of visits) t.match(visit, CONVERSED);
          }
        }
      },
    );

    await t.test('loops are refused, whatever way they come', async (t) => {
      const loop = async (dial: Dial, host: string, port: number, side: string): Promise<void> => {
        const destination = formatEndpoint({ address: host, port });
        t.equal(await refused(dial, { host, port }), 'ECONNRESET', destination);
        t.match(await sidecar.visit(), {
          side,
          destination,
          error: 'ERR_INTERCEPT_LOOP',
          up: 0,
          down: 0,
          closes: { client: 1, upstream: 1, relay: 1 },
        });
      };
      for (const { loopback, pod: own } of Object.values(FAMILIES)) {
        // The listener itself, by whatever address.
        await loop(dialFromPod, loopback, 15001, 'outbound');
        await loop(dialFromPod, own, 15006, 'inbound');
        // From outside, where the rule sends even what is for the other listener to the inbound one.
        await loop(dialFromClient, own, 15001, 'inbound');
        await loop(dialFromClient, own, 15006, 'inbound');
      }
      const { inbound, outbound } = await sidecar.state();
      t.equal(inbound.refused['ERR_INTERCEPT_LOOP'], 6);
      t.equal(outbound.refused['ERR_INTERCEPT_LOOP'], 2);
    });

    await t.test('the same port of another host is no loop', async (t) => {
      const server = await awayServer(t, pod, 15001);
      for (const { away, out } of Object.values(FAMILIES)) {
        const connection = once(server, 'connection') as Promise<[Socket]>;
        const left = await dialFromPod({ host: away(9), port: 15001 });
        const [right] = await connection;
        t.equal(canonicalAddress(right.remoteAddress!)!, out);
        await converse(t, { left, right });
        const destination = formatEndpoint({ address: away(9), port: 15001 });
        t.match(await sidecar.visit(), { side: 'outbound', kind: 'redirect', destination, ...CONVERSED });
      }
    });

    t.same(sidecar.surplus, [], 'nothing closed twice');
  },
  { root: true },
);
