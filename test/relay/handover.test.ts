// relay(): which sockets can be taken from Node, and how.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import t from 'tap';
import { relay } from '../../lib/index.ts';
import { pretendBun } from '../fixtures/foreign-runtime.ts';
import { connections, outcome, readAll, world } from '../fixtures/relay-world.ts';

t.test('nobody else reads on: listeners of data and readable are removed', async (t) => {
  const { left, client, upstream, right } = await world(t);
  const stolen: Buffer[] = [];
  client.on('data', (chunk: Buffer) => stolen.push(chunk));
  upstream.on('readable', () => upstream.read());
  relay(client, upstream);
  left.end('all of it');
  t.equal(String((await readAll(right)).data), 'all of it');
  t.same(stolen, []);
});

t.test('a unix socket will do', async (t) => {
  const path = `${t.testdir()}/socket`;
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  t.teardown(() => server.close());
  server.listen(path);
  await once(server, 'listening');
  const make = await connections(t);
  const { dialled: left, accepted: client } = await make();
  const joined = relay(client, connect({ path, allowHalfOpen: true }));
  const large = Buffer.alloc(4 * 1024 * 1024, 'u');
  left.end(large);
  t.ok((await readAll(left)).data.equals(large));
  t.same(await outcome(joined), { reason: 'end' });

  for (const engine of ['native', 'pipe'] as const) {
    const other = await make();
    const broken = relay(other.accepted, connect({ path, allowHalfOpen: true }), { engine });
    other.dialled.write('x');
    await once(other.dialled, 'data');
    other.dialled.resetAndDestroy();
    t.same(await outcome(broken), { reason: 'reset', side: 'client' });
  }
});

t.test('what cannot be handed over is refused, and left as it was', async (t) => {
  const { client, upstream, left } = await world(t);
  const tls = new TLSSocket(client);
  t.teardown(() => tls.destroy());
  t.throws(() => relay(tls, upstream), { code: 'ERR_RELAY_TLS', hint: /engine: 'any'/ });
  t.throws(() => relay(upstream, new Socket()), { code: 'ERR_RELAY_NO_FD', message: /upstream/ });
  const decoded = await world(t);
  decoded.client.setEncoding('utf8');
  t.throws(() => relay(decoded.client, upstream), { code: 'ERR_RELAY_DECODED' });
  t.notOk(upstream.destroyed || left.destroyed);

  const joined = relay(decoded.upstream, upstream);
  t.throws(() => relay(decoded.upstream, decoded.right), { code: 'ERR_RELAY_BUSY' });
  t.throws(() => relay(decoded.right, decoded.right), { code: 'ERR_RELAY_BUSY' });
  joined.destroy();
});

t.test('streams move what the addon cannot', async (t) => {
  const { left, client, upstream, right } = await world(t);
  const joined = relay(new TLSSocket(client, { isServer: true }), upstream, { engine: 'any' });
  left.end('not the start of a handshake');
  t.match(await outcome(joined), { reason: 'error', side: 'client', error: { code: /^ERR_SSL_/ } });
  t.equal((await readAll(right)).end, 'ECONNRESET');
});

t.test('found out only when the sockets are ready', async (t) => {
  const { client, upstream, left } = await world(t);
  client.write(Buffer.alloc(20 * 1024 * 1024));
  const decoded = relay(client, upstream);
  upstream.setEncoding('utf8');
  left.resume();
  t.match(await outcome(decoded), {
    reason: 'error',
    side: 'upstream',
    error: { code: 'ERR_RELAY_DECODED' },
  });
});

t.test('runtimes whose sockets cannot be handed over', async (t) => {
  const { left, client, upstream, right } = await world(t);
  t.teardown(pretendBun());
  t.throws(() => relay(client, upstream), { code: 'ERR_UNSUPPORTED_RUNTIME', hint: /engine: 'any'/ });
  const joined = relay(client, upstream, { engine: 'any' });
  joined.unref().ref();
  left.end('by streams');
  right.end();
  left.resume();
  t.equal(String((await readAll(right)).data), 'by streams');
  t.same(await outcome(joined), { reason: 'end' });
});

t.test('arguments', async (t) => {
  const { client, upstream } = await world(t);
  const call = relay as (...values: unknown[]) => unknown;
  t.throws(() => call({}, upstream), { code: 'ERR_INVALID_ARG_TYPE', message: /client/ });
  t.throws(() => call(client, null), { code: 'ERR_INVALID_ARG_TYPE', message: /upstream/ });
  t.throws(() => call(client, upstream, 5), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => call(client, upstream, null), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => call(client, upstream, { idleTimeout: -1 }), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => call(client, upstream, { halfCloseTimeout: 2 ** 31 }), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => call(client, upstream, { idleTimeout: '1s' }), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => call(client, upstream, { signal: {} }), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => call(client, upstream, { engine: 'turbo' }), { code: 'ERR_OUT_OF_RANGE' });
  t.notOk(client.destroyed || upstream.destroyed);
});

t.test('waiting for an upstream makes no error that nobody needs', async (t) => {
  const make = await connections(t);
  const { dialled: left, accepted: client } = await make();
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  t.teardown(() => server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { captureStackTrace } = Error;
  let made = 0;
  Error.captureStackTrace = (...error) => {
    made++;
    captureStackTrace(...error);
  };
  t.teardown(() => (Error.captureStackTrace = captureStackTrace));
  const upstream = connect({ port: (server.address() as AddressInfo).port, allowHalfOpen: true });
  const joined = relay(client, upstream);
  left.end('x');
  t.equal(String((await readAll(left)).data), 'x');
  t.same(await outcome(joined), { reason: 'end' });
  // A stack trace costs more than all else that there is to taking two sockets over.
  t.equal(made, 0);
});
