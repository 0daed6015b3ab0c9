// Relay servers whose clients, or destinations, are in another network namespace.
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import t from 'tap';
import { binding } from '../../lib/binding.ts';
import {
  createRelayServer,
  Namespace,
  type OriginalDst,
  type Relay,
  type RelayListenOptions,
  type RelayServer,
  type RelayServerOptions,
} from '../../lib/index.ts';
import { loopRefusal } from '../../lib/policy/loop-guard.ts';
import { Place } from '../../lib/recover/place.ts';
import { DialFrom } from '../../lib/relay/dial-from.ts';
import { sockets } from '../fixtures/descriptors.ts';
import { defaultRoutes, inNamespace, sh } from '../fixtures/netns.ts';
import {
  configure,
  connectInside,
  FAR,
  makePod,
  MARK,
  POD,
  redirect,
  serverInside,
  textOf,
} from '../fixtures/pod-namespace.ts';

type T = Parameters<typeof makePod>[0];

async function relayServer(
  t: T,
  options: Partial<RelayServerOptions>,
  where: RelayListenOptions,
): Promise<{ server: RelayServer; port: number; seen: OriginalDst[] }> {
  const seen: OriginalDst[] = [];
  const server = createRelayServer({
    decide: (destination) => {
      seen.push(destination);
      return { action: 'relay', ttl: 60_000 };
    },
    mark: MARK,
    ...options,
  });
  t.teardown(() => server.destroy());
  server.listen(where);
  await once(server, 'listening');
  return { server, port: server.address()!.port, seen };
}

const portOf = (server: Server): number => (server.address() as { port: number }).port;

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  sh(`ip addr add ${FAR.v4}/32 dev lo; ip addr add ${FAR.v6}/128 dev lo nodad`);

  await t.test('it dials where it listens, or where it is told to', async (t) => {
    const pod = await makePod(t);
    await configure(
      pod,
      `
      addr add ${FAR.v4} dev lo
      addr add ${FAR.v6} dev lo nodad
      -6 route add local ${FAR.v6} dev lo table local`,
    );
    const inside = await serverInside(t, pod, (socket) => socket.end('inside'));
    const outside = createServer((socket) => socket.end('outside')).listen(portOf(inside));
    t.teardown(() => outside.close());
    await once(outside, 'listening');
    const current = Namespace.current();
    t.teardown(() => current.close());
    for (const [options, answer] of [
      [{}, 'inside'],
      [{ namespace: pod }, 'inside'],
      [{ namespace: current }, 'outside'],
    ] as const) {
      const { server, port, seen } = await relayServer(t, options, { port: 0, namespace: pod });
      await redirect(pod, { tcp: port });
      for (const family of ['v4', 'v6'] as const) {
        // The second of each is the thread's own, if the destination is not where the dial leaves from.
        for (let i = 0; i < 2; i++) {
          const client = await connectInside(t, pod, FAR[family], portOf(inside));
          t.equal(await textOf(client), answer);
        }
      }
      t.match(seen, [
        { kind: 'redirect', address: FAR.v4 },
        { kind: 'redirect', address: FAR.v4 },
        { kind: 'redirect', address: FAR.v6 },
        { kind: 'redirect', address: FAR.v6 },
      ]);
      await pod.run(['nft', 'delete', 'table', 'inet', 'test']);
      server.close();
      await once(server, 'close');
    }
  });

  await t.test('its thread dials in there by itself, by the dozen, and leaves nothing open', async (t) => {
    // Two pods on a wire: what is dialled is not where the dial leaves from.
    const pod = await makePod(t);
    const other = await makePod(t);
    await pod.run([
      'ip',
      'link',
      'add',
      'wire',
      'type',
      'veth',
      'peer',
      'name',
      'wire',
      'netns',
      `/proc/${process.pid}/fd/${other.fd}`,
    ]);
    await configure(pod, `link set wire up\naddr add 10.9.0.1/24 dev wire`);
    await configure(other, `link set wire up\naddr add 10.9.0.2/24 dev wire`);
    const echo = await serverInside(t, other, (socket) => socket.end('other'));
    const held = sockets().size;
    const { server, port, seen } = await relayServer(t, {}, { port: 0, namespace: pod });
    const rules = `table ip wire {
      chain output { type nat hook output priority -100; meta mark ${MARK} accept; ip daddr 10.9.0.2 meta l4proto tcp redirect to :${port}
      }
      }`;
    t.match(await pod.run(['nft', '-f', '-'], { input: rules }), { status: 0 });
    for (let i = 0; i < 20; i++) {
      const client = await connectInside(t, pod, '10.9.0.2', portOf(echo));
      t.equal(await textOf(client), 'other');
    }
    t.equal(seen.length, 1, 'the first connection was decided about, the thread did the rest');
    server.close();
    await once(server, 'close');
    for (let i = 0; i < 500 && sockets().size > held; i++) await new Promise((done) => setTimeout(done, 10));
    t.equal(sockets().size, held);
  });

  await t.test('a call of the listener itself is a loop in there, and none out here', async (t) => {
    const pod = await makePod(t);
    const { server, port, seen } = await relayServer(t, {}, { port: 0, namespace: pod });
    const relayed = once(server, 'relay');
    // It may be reset before it is seen to be connected.
    const refused = connectInside(t, pod, POD.v4, port).catch((error: Error) => error);
    const [relay] = (await relayed) as [Relay];
    t.match(relay.outcome, { reason: 'error', error: { code: 'ERR_INTERCEPT_LOOP' } });
    await refused;
    t.match(seen, [{ kind: 'direct', address: POD.v4, port }]);
    t.equal(loopRefusal({ address: '127.0.0.1', port }), undefined, 'the port is another namespace’s');
    t.match(loopRefusal({ address: '127.0.0.1', port }, 0, new Place(pod.fd)), {
      code: 'ERR_INTERCEPT_LOOP',
    });
    t.match(
      loopRefusal({ address: '127.0.0.1', port }, 0, new Place(-1, -1)),
      { code: 'ERR_INTERCEPT_LOOP' },
      'in doubt it is one',
    );
  });

  await t.test(
    'a descriptor of another namespace: it dials in there, also when nothing else holds it',
    async (t) => {
      const pod = await makePod(t);
      const echo = await serverInside(t, pod, (socket) => socket.end('inside'));
      await configure(pod, `addr add ${FAR.v4} dev lo`);
      const fd = binding().bindListener(null, 0, false, pod.fd) as number;
      const { port, seen } = await relayServer(t, {}, { fd });
      await redirect(pod, { tcp: port });
      const client = await connectInside(t, pod, FAR.v4, portOf(echo));
      pod.close();
      t.equal(await textOf(client), 'inside');
      t.match(seen, [{ kind: 'redirect', address: FAR.v4 }]);
    },
  );

  await t.test('what cannot be', async (t) => {
    const pod = await makePod(t);
    t.throws(() => createRelayServer({ decide: () => 'relay', namespace: 1 as never }), {
      code: 'ERR_INVALID_ARG_TYPE',
    });
    const server = createRelayServer({ decide: () => 'relay' });
    t.throws(() => server.listen({ namespace: {} as never }), { code: 'ERR_INVALID_ARG_TYPE' });
    server.listen({ host: '198.51.100.1', namespace: pod });
    t.match(await once(server, 'error'), [{ code: 'EADDRNOTAVAIL', syscall: 'listen' }]);
    // A namespace that may not be entered: no right over it, so no dial in it.
    const addon = binding();
    const fd = addon.bindListener(null, 0, false, pod.fd) as number;
    const { namespaceNumber, namespaceOfSocket } = addon;
    t.teardown(() => (addon.namespaceNumber = namespaceNumber));
    addon.namespaceNumber = () => -1;
    t.match(DialFrom.open(pod, undefined, -1), { code: 'EPERM', syscall: 'setns' });
    addon.namespaceNumber = namespaceNumber;
    t.teardown(() => (addon.namespaceOfSocket = namespaceOfSocket));
    addon.namespaceOfSocket = () => -1;
    t.match(DialFrom.open(undefined, undefined, fd), { code: 'EPERM', syscall: 'setns' });
    const refused = createRelayServer({ decide: () => 'relay' }).listen({ fd });
    t.match(await once(refused, 'error'), [{ code: 'EPERM', syscall: 'setns', hint: /CAP_NET_ADMIN/ }]);
    addon.closeFd(fd);
  });
});
