// Connections and datagrams to sockets of another network namespace: facts are asked in theirs.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import t from 'tap';
import { binding } from '../../lib/binding.ts';
import {
  connect,
  createDatagramSocket,
  createServer,
  type DatagramInfo,
  intercept,
  type InterceptedSocket,
  type Namespace,
  type OriginalDst,
  originalDst,
  recoverOriginalDst,
} from '../../lib/index.ts';
import { endpointAt, Role } from '../../lib/recover/kernel-answer.ts';
import { isOwnAddress } from '../../lib/recover/own-address.ts';
import { here, Place } from '../../lib/recover/place.ts';
import { conntrackActive } from '../../lib/recover/tracking.ts';
import { inNamespace, nft } from '../fixtures/netns.ts';
import { connectInside, FAR, makePod, POD, redirect, serverInside } from '../fixtures/pod-namespace.ts';
import { rerunUnprivileged, unprivileged } from '../fixtures/unprivileged.ts';

async function accepted(
  t: Parameters<typeof makePod>[0],
  server: Server,
  pod: Namespace,
  address: string,
  port: number,
): Promise<Socket> {
  const next = once(server, 'connection') as Promise<[Socket]>;
  await connectInside(t, pod, address, port);
  return (await next)[0];
}

const portOf = (server: Server): number => (server.address() as { port: number }).port;

if (unprivileged) {
  // On fd 3 a listening socket of a namespace that this process may not enter.
  t.test(
    'what cannot be asked in the socket’s own namespace is unknown, what is certain is not',
    async (t) => {
      const server = createServer().listen({ fd: 3, exclusive: true });
      t.teardown(() => server.close());
      const seen: OriginalDst[] = [];
      server.on('connection', (socket: InterceptedSocket) => {
        seen.push(socket.originalDst);
        socket.destroy();
        if (seen.length === 2) server.close();
      });
      await once(server, 'close');
      const redirected = seen.find(({ kind }) => kind === 'redirect');
      t.match(redirected, { address: FAR.v4, port: 80 });
      t.match(
        seen.find(({ kind }) => kind !== 'redirect'),
        { kind: 'unknown', cause: { code: 'EPERM', syscall: 'setns', hint: /CAP_NET_ADMIN/ } },
      );
    },
  );
} else {
  await inNamespace(t, import.meta.url, async () => {
    await t.test('createServer().listen({ namespace }): redirect and direct, in both families', async (t) => {
      const pod = await makePod(t);
      const server = createServer();
      t.teardown(() => server.close());
      server.listen({ port: 0, namespace: pod });
      await once(server, 'listening');
      const port = portOf(server);
      await redirect(pod, { tcp: port });
      for (const family of ['v4', 'v6'] as const) {
        const far = (await accepted(t, server, pod, FAR[family], 80)) as InterceptedSocket;
        t.match(far.originalDst, { kind: 'redirect', address: FAR[family], port: 80 });
        const near = (await accepted(t, server, pod, POD[family], port)) as InterceptedSocket;
        t.match(near.originalDst, { kind: 'direct', address: POD[family], port });
      }
    });

    await t.test('a descriptor that the program brings by itself', async (t) => {
      const pod = await makePod(t);
      const plain = await serverInside(t, pod, () => {});
      await redirect(pod, { tcp: portOf(plain) });
      const near = await accepted(t, plain, pod, POD.v4, portOf(plain));
      t.match(recoverOriginalDst(near), { kind: 'direct', address: POD.v4 });
      intercept(plain);
      const far = await accepted(t, plain, pod, FAR.v6, 443);
      t.match(originalDst(far), { kind: 'redirect', address: FAR.v6, port: 443 });
      t.match(originalDst(await accepted(t, plain, pod, POD.v6, portOf(plain))), {
        kind: 'direct',
        address: POD.v6,
      });
    });

    await t.test('a connection that comes from another process', async (t) => {
      const pod = await makePod(t);
      const plain = await serverInside(t, pod, () => {});
      await redirect(pod, { tcp: portOf(plain) });
      const child = fork(new URL('../fixtures/programs/socket-receiver.js', import.meta.url));
      t.teardown(() => child.kill());
      for (const [address, port, kind] of [
        [POD.v4, portOf(plain), 'direct'],
        [FAR.v4, 80, 'redirect'],
      ] as const) {
        const socket = await accepted(t, plain, pod, address, port);
        child.send('socket', socket);
        t.match(await once(child, 'message'), [{ kind, address, port }]);
      }
    });

    await t.test(
      'without conntrack in there a connection is direct, whatever is at work out here',
      async (t) => {
        nft(
          'table inet busy {\n chain c {\n type filter hook output priority 0;\n ct state new counter\n }\n }',
        );
        t.equal(conntrackActive(4, here()), true);
        const pod = await makePod(t);
        await pod.run(['nft', 'delete', 'table', 'inet', 'test']);
        const server = createServer().listen({ port: 0, host: '0.0.0.0', namespace: pod });
        t.teardown(() => server.close());
        await once(server, 'listening');
        const near = (await accepted(t, server, pod, POD.v4, portOf(server))) as InterceptedSocket;
        t.match(near.originalDst, { kind: 'direct', address: POD.v4 });
        t.equal(conntrackActive(4, new Place(pod.fd)), false);
        nft('delete table inet busy');
      },
    );

    await t.test('what is remembered of one namespace is not believed of another', async (t) => {
      const pod = await makePod(t);
      const server = createServer().listen({ port: 0, namespace: pod });
      t.teardown(() => server.close());
      await once(server, 'listening');
      const socket = await accepted(t, server, pod, POD.v4, portOf(server));
      recoverOriginalDst(socket);
      t.equal(endpointAt(Role.local).address, POD.v4);
      const inPod = new Place(pod.fd);
      t.equal(isOwnAddress(Role.local, inPod), true);
      t.equal(isOwnAddress(Role.local, here()), false);
      t.ok(inPod.isElsewhere);
      t.notOk(here().isElsewhere);
    });

    await t.test('UDP: redirect, direct, and answers from where the question went', async (t) => {
      const pod = await makePod(t);
      const socket = createDatagramSocket({ port: 0, namespace: pod });
      t.teardown(() => socket.close());
      const { port } = socket.address();
      await redirect(pod, { udp: port });
      socket.on('message', (data: Buffer, info: DatagramInfo) => socket.reply(`answer to ${data}`, info));
      for (const [family, wildcard] of [
        ['v4', '0.0.0.0'],
        ['v6', '::'],
      ] as const) {
        const client = createDatagramSocket({ address: wildcard, ipv6Only: true, namespace: pod });
        t.teardown(() => client.close());
        for (const [destination, kind] of [
          [{ address: FAR[family], port: 53 }, 'redirect'],
          [{ address: POD[family], port }, 'direct'],
        ] as const) {
          const question = once(socket, 'message');
          const answer = once(client, 'message');
          client.send(kind, { destination });
          t.match((await question)[1], { kind, destination }, `${family} ${kind}`);
          const [data, { source }] = (await answer) as [Buffer, DatagramInfo];
          t.equal(String(data), `answer to ${kind}`);
          t.match(source, destination, 'the answer is from there');
        }
      }
    });

    await t.test('what a socket of a namespace cannot be given', async (t) => {
      const pod = await makePod(t);
      const server = createServer();
      for (const bad of [1, {}, 'pod']) {
        t.throws(() => server.listen({ port: 0, namespace: bad as never }), { code: 'ERR_INVALID_ARG_TYPE' });
        t.throws(() => createDatagramSocket({ namespace: bad as never }), { code: 'ERR_INVALID_ARG_TYPE' });
        t.throws(() => connect({ address: '::1', port: 1, namespace: bad as never }), {
          code: 'ERR_INVALID_ARG_TYPE',
        });
      }
      t.throws(() => server.listen({ port: -1, namespace: pod }), { code: 'ERR_OUT_OF_RANGE' });
      t.throws(() => server.listen({ host: 'localhost', namespace: pod }), { code: 'ERR_INVALID_ARG_TYPE' });
      server.listen({ host: '198.51.100.1', port: 1, namespace: pod });
      t.match(await once(server, 'error'), [
        { code: 'EADDRNOTAVAIL', syscall: 'listen', address: '198.51.100.1', port: 1 },
      ]);
      const elsewhere = binding().bindListener(null, 0, false, 0) as [number, number];
      server.listen({ port: 0, namespace: { __proto__: pod, fd: 0 } as never });
      t.match(await once(server, 'error'), [{ errno: elsewhere[0], syscall: 'socket' }], 'not a namespace');
      server.listen({ port: 0, host: '127.0.0.1', ipv6Only: true, namespace: pod });
      await once(server, 'listening');
      server.close();
      const upstream = connect({ address: POD.v4, port: 9, namespace: pod });
      t.match(await once(upstream, 'error'), [{ code: 'ECONNREFUSED', address: POD.v4 }]);
      pod.close();
      t.throws(() => server.listen({ port: 0, namespace: pod }), { code: 'ERR_NAMESPACE_CLOSED' });
    });

    await t.test('without the rights that asking takes', async (t) => {
      const pod = await makePod(t);
      const fd = binding().bindListener('0.0.0.0', 40123, false, pod.fd) as number;
      await redirect(pod, { tcp: 40123 });
      // By themselves: this process waits for its other half.
      for (const [address, port] of [
        [POD.v4, 40123],
        [FAR.v4, 80],
      ] as const) {
        const call = `until exec 3<>/dev/tcp/${address}/${port}; do sleep 0.05; done 2>/dev/null; read -r <&3`;
        const client = pod.spawn('bash', ['-c', call], { stdio: 'ignore' });
        t.teardown(() => client.kill());
      }
      rerunUnprivileged(t, import.meta.url, fd);
      closeSync(fd);
    });
  });
}
