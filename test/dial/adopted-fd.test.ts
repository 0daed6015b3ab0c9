// connect({ fd }): a socket that the caller has opened is dialled with, and closed whatever happens.
import { once } from 'node:events';
import { fstatSync, closeSync } from 'node:fs';
import { BlockList, createServer as createNetServer, type AddressInfo, Socket } from 'node:net';
import t from 'tap';
import { binding } from '../../lib/binding.ts';
import {
  connect,
  connectOriginal,
  connectVia,
  createServer,
  Namespace,
  type ConnectOptions,
  type ConnectOriginalOptions,
  type InterceptedSocket,
} from '../../lib/index.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import { accepted, listening, redirectChain, rules } from '../fixtures/connections.ts';
import { closedFd, fileFd, udpFd, unixFd } from '../fixtures/descriptors.ts';
import { closed, dialNetwork, failure, leakFree, seenBy, whoami } from '../fixtures/dialling.ts';
import { pretendBun } from '../fixtures/foreign-runtime.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { makePod, POD, serverInside } from '../fixtures/pod-namespace.ts';

/** A socket as a program may get it from anywhere. */
function opened(family: 4 | 6, source: string | null = null, namespace?: Namespace): number {
  const where = namespace?.fd ?? -1;
  return binding().openDialSocket(family, source, 0, false, false, null, null, -1, where) as number;
}

/** One that is connected; no other descriptor of it is left. */
async function connected(family: 4 | 6, address: string, port: number): Promise<number> {
  const socket = new Socket({ fd: opened(family), allowHalfOpen: true }).connect(port, address);
  await once(socket, 'connect');
  const fd = binding().duplicateFd(socketFd(socket)!);
  await closed(socket);
  return fd;
}

const isOpen = (fd: number): boolean => {
  try {
    return fstatSync(fd).isSocket();
  } catch {
    return false;
  }
};

await inNamespace(t, import.meta.url, async () => {
  dialNetwork();
  const v4 = await whoami(t, '127.0.0.1');
  const v6 = await whoami(t, '::1');

  t.test('dialled from where it is bound, in both families', async (t) => {
    await leakFree(t, async () => {
      for (const [family, address, port, source] of [
        [4, '127.0.0.1', v4.port, '127.0.0.6'],
        [4, '::ffff:127.0.0.1', v4.port, '127.0.0.6'],
        [6, '::1', v6.port, '::6'],
      ] as const) {
        const fd = opened(family, source);
        const socket = connect({ fd, address, port });
        t.equal(socket.connecting, true);
        socket.write('early');
        const seen = await seenBy(socket);
        t.equal(seen.address, source);
        t.equal(seen.port, socket.localPort);
        await closed(socket);
      }
    });
  });

  t.test('opened in another network namespace', async (t) => {
    const pod = await makePod(t);
    const server = await serverInside(t, pod, (socket) => void socket.end(String(socket.remoteAddress)));
    const { port } = server.address() as AddressInfo;
    await leakFree(t, async () => {
      const socket = connect({ fd: opened(4, null, pod), address: POD.v4, port });
      const [answer] = (await once(socket, 'data')) as [Buffer];
      t.equal(String(answer), `::ffff:${POD.v4}`);
      await closed(socket);
    });
  });

  t.test('connected already: nothing is dialled, and what was sent meanwhile is read', async (t) => {
    await leakFree(t, async () => {
      for (const [family, address, dialled, port] of [
        [4, '127.0.0.1', '127.0.0.1', v4.port],
        [6, '::1', '::1', v6.port],
        [6, '127.0.0.1', '::ffff:127.0.0.1', v4.port],
      ] as const) {
        const fd = await connected(family, dialled, port);
        const socket = connect({ fd, address, port });
        t.equal(socket.connecting, true, 'until the next turn');
        t.equal((await seenBy(socket)).port, socket.localPort);
        socket.end('bye');
        t.equal(String((await once(socket, 'data'))[0]), 'bye');
        await closed(socket);
      }
    });
  });

  t.test('what cannot be dialled with is thrown, and stays the caller’s', async (t) => {
    const other = await connected(4, '127.0.0.1', v4.port);
    const fd = opened(4);
    const udp = await udpFd(t);
    const unix = await unixFd(t);
    const file = fileFd(t, '/dev/null');
    const good = { address: '127.0.0.1', port: v4.port };
    for (const [options, code, message] of [
      [{ ...good, fd: -1 }, 'ERR_OUT_OF_RANGE', /"fd"/],
      [{ ...good, fd: '3' }, 'ERR_INVALID_ARG_TYPE', /"fd"/],
      [{ ...good, fd: udp }, 'ERR_INVALID_FD_TYPE', /connect needs a TCP socket; fd \d+ is a UDP socket/],
      [{ ...good, fd: unix }, 'ERR_INVALID_FD_TYPE', /family 1, type 1/],
      [{ ...good, fd: file }, 'ENOTSOCK', /getsockopt/],
      [{ ...good, fd: closedFd() }, 'EBADF', /getsockopt/],
      [{ ...good, fd, address: 'localhost' }, 'ERR_INVALID_ARG_VALUE', /literal/],
      [{ ...good, fd, address: '::1' }, 'ERR_INVALID_ARG_VALUE', /IPv6 address .* IPv4 socket/],
      [{ ...good, fd, timeout: -1 }, 'ERR_OUT_OF_RANGE', /./],
      [{ ...good, fd: other, port: v6.port }, 'ERR_INVALID_ARG_VALUE', /is connected to 127.0.0.1:/],
      [{ ...good, fd: other, address: '127.0.0.2' }, 'ERR_INVALID_ARG_VALUE', /and not to 127.0.0.2:/],
      [{ ...good, fd, source: { address: '127.0.0.6' } }, 'ERR_INVALID_ARG_VALUE', /"options.source"/],
      [{ ...good, fd, transparent: true }, 'ERR_INVALID_ARG_VALUE', /"options.transparent"/],
      [{ ...good, fd, mark: 0 }, 'ERR_INVALID_ARG_VALUE', /"options.mark"/],
    ] as const)
      t.throws(() => connect(options as ConnectOptions), { code, message }, JSON.stringify(options));
    t.throws(
      () =>
        connectVia({ protocol: 'socks5', address: 'localhost', port: 1 }, { name: 'a.b', port: 1 }, { fd }),
      { code: 'ERR_INVALID_ARG_VALUE', message: /literal/ },
    );
    // Nor is it closed where the dial would be refused.
    const deny = new BlockList();
    deny.addAddress('127.0.0.1');
    const proxy = { protocol: 'socks5', address: '127.0.0.1', port: 1 } as const;
    t.throws(() => connectVia(proxy, { address: '127.0.0.1', port: 1 }, { fd: udp, egress: { deny } }), {
      code: 'ERR_INVALID_FD_TYPE',
    });
    for (const each of [fd, other, udp, unix]) t.ok(isOpen(each));
    closeSync(fd);
    closeSync(other);
  });

  t.test('what comes to nothing is closed', async (t) => {
    const good = { address: '127.0.0.1', port: v4.port };
    const gone = await whoami(t, '127.0.0.1');
    await new Promise((resolve) => gone.server.close(resolve));
    const deny = new BlockList();
    deny.addAddress('127.0.0.1');
    const listener = createNetServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    t.teardown(() => listener.close());
    const proxy = { protocol: 'socks5', address: '127.0.0.1', port: gone.port } as const;
    const target = { address: '127.0.0.1', port: 1 };
    await leakFree(t, async () => {
      for (const [make, code] of [
        [(fd: number) => connect({ ...good, fd, port: gone.port }), 'ECONNREFUSED'],
        [(fd: number) => connect({ ...good, fd, egress: { deny } }), 'ERR_EGRESS_DENIED'],
        [(fd: number) => connect({ ...good, fd, signal: AbortSignal.abort() }), 'ABORT_ERR'],
        [(fd: number) => connect({ ...good, fd }).destroy(new Error('x')), undefined],
        [(fd: number) => connectVia(proxy, target, { fd }), 'ECONNREFUSED'],
        [(fd: number) => connectVia(proxy, target, { fd, egress: { deny } }), 'ERR_EGRESS_DENIED'],
        [(fd: number) => connectVia(proxy, target, { fd, signal: AbortSignal.abort() }), 'ABORT_ERR'],
      ] as const) {
        const fd = opened(4);
        const error = await failure(make(fd));
        t.equal(error.code, code, String(make));
      }
      const listening = binding().duplicateFd(socketFd(listener)!);
      t.match(await failure(connect({ ...good, fd: listening })), { code: 'EISCONN', syscall: 'connect' });
      const over = connect({ ...good, fd: await connected(4, '127.0.0.1', v4.port) });
      process.nextTick(() => over.destroy());
      await once(over, 'close');
    });
  });

  t.test('connectOriginal(): by it too, judged where it leaves from', async (t) => {
    const marked = (): number =>
      binding().openDialSocket(4, null, 0, false, false, 7, null, -1, -1) as number;
    await whoami(t, '198.51.100.9', 80);
    const server = createServer();
    const port = await listening(t, server);
    const chain = redirectChain(port).replace('-100\n', '-100\n meta mark 7 accept\n');
    rules(t, 'inet', chain);
    const pod = await Namespace.create();
    t.teardown(() => pod.close());
    const clients: InterceptedSocket[] = [];
    const direct: InterceptedSocket[] = [];
    for (let i = 0; i < 3; i++) clients.push(await accepted(t, server, 80, '198.51.100.9'));
    for (let i = 0; i < 2; i++) direct.push(await accepted(t, server, port, '127.0.0.1'));
    for (const each of [...clients, ...direct]) each.on('error', () => {});
    await leakFree(t, async () => {
      const upstream = connectOriginal(clients[0]!, { fd: marked() });
      t.equal((await seenBy(upstream)).address, upstream.localAddress);
      t.equal(upstream.remotePort, 80);
      await closed(upstream);

      const refusals: [InterceptedSocket, ConnectOriginalOptions, string][] = [
        [clients[1]!, { fd: marked(), egress: { allow: new BlockList() } }, 'ERR_EGRESS_DENIED'],
        [direct[0]!, { fd: marked() }, 'ERR_INTERCEPT_LOOP'],
        [direct[1]!, { fd: opened(4, null, pod) }, 'ECONNREFUSED'],
      ];
      for (const [client, options, code] of refusals) {
        const error = await failure(connectOriginal(client, options));
        t.equal(error.code, code);
      }
    });
    const fd = marked();
    t.throws(() => connectOriginal(clients[2]!, { fd, preserveSource: true }), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /"options.fd" or "options.preserveSource"/,
    });
    const udp = await udpFd(t);
    t.throws(() => connectOriginal(clients[2]!, { fd: udp, egress: { allow: new BlockList() } }), {
      code: 'ERR_INVALID_FD_TYPE',
    });
    for (const each of [fd, udp]) t.ok(isOpen(each));
    closeSync(fd);
  });

  t.test('a runtime that cannot be given one', async (t) => {
    const internals = Socket.prototype as unknown as { connect: (...args: unknown[]) => Socket };
    const { connect: original } = internals;
    t.teardown(() => (internals.connect = original));
    const good = { address: '127.0.0.1', port: v4.port };
    await leakFree(t, async () => {
      const fd = opened(4);
      internals.connect = function (this: Socket, ...args: unknown[]) {
        const socket = Reflect.apply(original, this, args) as Socket & { _handle: { open?: unknown } };
        Object.defineProperty(socket._handle, 'open', { value: undefined });
        return socket;
      };
      t.match(await failure(connect({ ...good, fd })), { code: 'ERR_UNSUPPORTED_RUNTIME' });
    });
    const fd = opened(4);
    const backToNode = pretendBun();
    t.throws(() => connect({ ...good, fd }), { code: 'ERR_UNSUPPORTED_RUNTIME' });
    backToNode();
    t.ok(isOpen(fd), 'and stays the caller’s');
    closeSync(fd);
  });
});
