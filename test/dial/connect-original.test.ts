// connectOriginal() behind redirect rules.
import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { on as events, once } from 'node:events';
import { readFileSync } from 'node:fs';
import {
  BlockList,
  connect as netConnect,
  createServer as createNetServer,
  type Server,
  type Socket,
} from 'node:net';
import { pipeline } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as tlsConnect, createServer as createTlsServer } from 'node:tls';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { on, REDIRECT_PORT, SCRATCH, TPROXY_PORT } from '../../lib/demo/stage.ts';
import {
  connectOriginal,
  createServer,
  intercept,
  type ConnectOriginalOptions,
  type DiagnosticsMessages,
  type InterceptedSocket,
  type InterceptServer,
} from '../../lib/index.ts';
import { accepted, client, listening, rules } from '../fixtures/connections.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { exchange, startStage } from '../fixtures/stage.ts';

const run = promisify(execFile);
/** A proxy that passes everything on; `'upstream'` is emitted with each connection that it makes. */
async function proxy(
  t: Test,
  port: number,
  options: ConnectOriginalOptions,
  transparent = false,
): Promise<InterceptServer> {
  const server = createServer({ allowHalfOpen: true, transparent }, (client) => {
    const upstream = connectOriginal(client, { allowHalfOpen: true, ...options });
    pipeline(client, upstream, () => {});
    pipeline(upstream, client, () => {});
    (server as Server).emit('upstream', upstream, client);
  });
  await listening(t, server, { port });
  return server;
}

/** The error that a socket ends with, or has ended with. */
async function failure(
  socket: Socket,
): Promise<(NodeJS.ErrnoException & { address?: string; port?: number }) | null> {
  socket.on('error', () => {});
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  return socket.errored;
}

await inNamespace(t, import.meta.url, async () => {
  await startStage(t);

  t.test('REDIRECT: the destination is dialled from this host', async (t) => {
    const before = openSockets();
    const told: unknown[] = [];
    const listener = (message: unknown): void =>
      void told.push((message as DiagnosticsMessages['original-dst:dial']).to);
    subscribe('original-dst:dial', listener);
    t.teardown(() => unsubscribe('original-dst:dial', listener));
    const server = await proxy(t, REDIRECT_PORT, {});
    for (const [address, at, from] of [
      ['198.51.100.30', '198.51.100.30:9000', '198.51.100.1'],
      ['2001:db8:a::30', '[2001:db8:a::30]:9000', '2001:db8:a::1'],
    ] as const) {
      const { sha256, received } = await exchange(address, 9000, 40001, 50_000);
      t.same(JSON.parse(received), { server: at, client: from, sha256 });
    }
    t.match(server.interceptStats, { redirect: 2, refused: {} });
    t.same(
      told,
      ['198.51.100.30', '2001:db8:a::30'].map((address) => [{ address, port: 9000 }]),
    );
    server.close();
    t.same(await socketsLeft(before), []);
  });

  t.test('TPROXY: preserveSource keeps the address, or the port too', async (t) => {
    for (const [preserveSource, port] of [
      [true, 40010],
      ['port', 40020],
    ] as const) {
      const before = openSockets();
      const server = await proxy(t, TPROXY_PORT, { preserveSource }, true);
      const ports: (number | undefined)[] = [];
      (server as Server).on('upstream', (upstream: Socket) =>
        upstream.on('connect', () => ports.push(upstream.localPort)),
      );
      for (const [address, at, from] of [
        ['203.0.113.30', '203.0.113.30:9000', '192.0.2.2'],
        ['2001:db8:b::30', '[2001:db8:b::30]:9000', '2001:db8::2'],
      ] as const) {
        const { sha256, received } = await exchange(address, 9000, port, 50_000);
        t.same(JSON.parse(received), { server: at, client: from, sha256 }, `${preserveSource}: ${address}`);
      }
      if (preserveSource === 'port') t.same(ports, [port, port]);
      else t.notOk(ports.includes(port), 'the kernel chose');
      server.close();
      t.same(await socketsLeft(before), []);
    }
  });

  t.test('two connections from one client port keep it, both', async (t) => {
    const server = await proxy(t, TPROXY_PORT, { preserveSource: 'port' }, true);
    const upstreams = events(server, 'upstream') as AsyncIterator<[Socket, InterceptedSocket]>;
    // Held open by the client, so that both are there at once.
    const script = `
      const net = require('node:net');
      for (const [port, host] of [[9000, '203.0.113.30'], [80, '203.0.113.10']])
        net.connect({ port, host, localPort: 40030 });
    `;
    const [command, args] = on('client', [process.execPath, '-e', script]);
    const holder = execFile(command, args);
    t.teardown(() => holder.kill());
    const pair = [(await upstreams.next()).value, (await upstreams.next()).value] as [Socket, Socket][];
    for (const [upstream, client] of pair) {
      if (upstream.connecting) await once(upstream, 'connect');
      t.same([upstream.localAddress, upstream.localPort], ['192.0.2.2', 40030]);
      t.equal(client.remotePort, 40030);
      client.destroy();
    }
  });

  t.test('a loop is refused: RST, an error, a count', async (t) => {
    const before = openSockets();
    const server = await proxy(t, REDIRECT_PORT, {});
    for (const host of ['127.0.0.1', '127.9.9.9', '192.0.2.1', '::1', '2001:db8::1']) {
      const connection = once(server, 'upstream') as Promise<[Socket, InterceptedSocket]>;
      const client = failure(netConnect(REDIRECT_PORT, host));
      const [upstream, { originalDst }] = await connection;
      t.equal(originalDst.kind, 'direct');
      t.match(await failure(upstream), { code: 'ERR_INTERCEPT_LOOP' }, host);
      t.equal((await client)?.code, 'ECONNRESET', host);
    }
    t.match(server.interceptStats, { direct: 5, reset: 0, refused: { ERR_INTERCEPT_LOOP: 5 } });

    // The same port of another host.
    const connection = once(server, 'upstream') as Promise<[Socket, InterceptedSocket]>;
    const script = `require('node:net').connect(${REDIRECT_PORT}, '198.51.100.30').on('error', () => {})`;
    await run(...on('client', [process.execPath, '-e', script]));
    const [upstream] = await connection;
    t.match(await failure(upstream), { code: 'ECONNREFUSED', address: '198.51.100.30', port: REDIRECT_PORT });
    t.match(server.interceptStats, { redirect: 1, refused: { ERR_INTERCEPT_LOOP: 5 } });
    server.close();
    t.same(await socketsLeft(before), []);
  });

  t.test('under TLS the connection itself is reset, and its server counts', async (t) => {
    const tls = { key: readFileSync(`${SCRATCH}/key.pem`), cert: readFileSync(`${SCRATCH}/cert.pem`) };
    const server = intercept(createTlsServer(tls));
    const port = await listening(t, server);
    const secured = once(server, 'secureConnection');
    const client = tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false });
    const failed = failure(client);
    const [socket] = (await secured) as [Socket];
    socket.on('error', () => {});
    t.match(await failure(connectOriginal(socket)), { code: 'ERR_INTERCEPT_LOOP' });
    t.equal((await failed)?.code, 'ECONNRESET');
    t.same(server.interceptStats.refused, { ERR_INTERCEPT_LOOP: 1 });
    if (!socket.closed) await once(socket, 'close');
  });

  t.test('the egress policy is asked before the dial', async (t) => {
    const deny = new BlockList();
    deny.addAddress('127.0.0.1');
    const server = createServer();
    const port = await listening(t, server);
    const socket = await accepted<InterceptedSocket>(t, server, port, '127.0.0.1');
    socket.on('error', () => {});
    t.match(await failure(connectOriginal(socket, { egress: { deny } })), { code: 'ERR_EGRESS_DENIED' });
    t.equal(socket.destroyed, true);
    t.same(server.interceptStats.refused, { ERR_EGRESS_DENIED: 1 });
  });

  t.test('an unknown destination is not dialled', async (t) => {
    const server = createServer();
    server.listen(`${SCRATCH}/unix.sock`);
    await once(server, 'listening');
    t.teardown(() => server.close());
    const connection = once(server, 'connection');
    const client = netConnect(`${SCRATCH}/unix.sock`);
    const closed = once(client, 'close');
    const [socket] = (await connection) as [InterceptedSocket];
    t.equal(socket.originalDst.kind, 'unknown');
    const error = await failure(connectOriginal(socket));
    t.match(error, { code: 'ERR_UNKNOWN_DESTINATION', cause: { syscall: String } });
    t.same(server.interceptStats.refused, { ERR_UNKNOWN_DESTINATION: 1 });
    await closed;
  });

  t.test('a client that has gone has no address to keep', async (t) => {
    const port = await listening(t, createNetServer(), { port: 9001 });
    const server = createServer({ pauseOnConnect: true });
    const proxyPort = await listening(t, server);
    rules(
      t,
      'ip',
      `chain out {
        type nat hook output priority -100
        tcp dport ${port} redirect to :${proxyPort}
      }`,
    );
    const connection = once(server, 'connection');
    const dialler = client(t, port, '127.0.0.1');
    const [socket] = (await connection) as [InterceptedSocket];
    socket.on('error', () => {});
    t.match(socket.originalDst, { kind: 'redirect', port });
    dialler.resetAndDestroy();
    await once(dialler, 'close');
    t.equal(socket.remoteAddress, undefined);
    t.match(await failure(connectOriginal(socket, { preserveSource: true })), {
      code: 'ENOTCONN',
      syscall: 'getpeername',
    });
    socket.destroy();
  });

  t.test('a server that does not intercept: recovered on the spot, counted nowhere', async (t) => {
    const plain = createNetServer();
    const port = await listening(t, plain);
    const other = createServer();
    t.teardown(() => other.close());
    const socket = await accepted(t, plain, port, '127.0.0.1');
    plain.close();
    await delay(0);
    other.listen(port);
    await once(other, 'listening');
    socket.on('error', () => {});
    t.match(await failure(connectOriginal(socket)), { code: 'ERR_INTERCEPT_LOOP' });
  });

  t.test('argument errors are thrown, and the client is left alone', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    const socket = await accepted<InterceptedSocket>(t, server, port, '127.0.0.1');
    for (const [options, code] of [
      [null, 'ERR_INVALID_ARG_TYPE'],
      [{ preserveSource: 'yes' }, 'ERR_OUT_OF_RANGE'],
      [{ preserveSource: true, source: { address: '127.0.0.6' } }, 'ERR_INVALID_ARG_VALUE'],
      [
        { preserveSource: true, via: { protocol: 'socks5', address: '127.0.0.6', port: 1080 } },
        'ERR_INVALID_ARG_VALUE',
      ],
      [{ mark: -1 }, 'ERR_OUT_OF_RANGE'],
    ] as const) {
      t.throws(() => connectOriginal(socket, options as ConnectOriginalOptions), { code });
    }
    t.throws(() => connectOriginal(undefined as unknown as Socket), { code: 'ERR_INVALID_ARG_TYPE' });
    t.equal(socket.destroyed, false);
  });
});
