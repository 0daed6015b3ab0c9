// intercept() behind redirect rules.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { EventEmitter, once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer as createNetServer, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import * as tls from 'node:tls';
import t, { type Test } from 'tap';
import {
  createServer,
  intercept,
  originalDst,
  type InterceptedSocket,
  type InterceptOptions,
} from '../../lib/index.ts';
import { makeCertificate } from '../fixtures/certificate.ts';
import {
  accepted,
  client,
  dialled,
  flushConntrack,
  listening,
  redirectChain,
  rules,
  TRACKING,
  ZONED,
} from '../fixtures/connections.ts';
import { pretendBun } from '../fixtures/foreign-runtime.ts';
import { defaultRoutes, inNamespace } from '../fixtures/netns.ts';

const DESTINATION = '198.51.100.7';

/** Listens, and has connections to port 80 of 198.51.100.0/24 redirected. */
async function redirected(t: Test, server: Server): Promise<number> {
  const port = await listening(t, server);
  rules(t, 'inet', redirectChain(port));
  return port;
}

function unixPath(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'original-dst-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return join(directory, 'socket');
}

/** The error that a client ends with, or undefined when it ends in peace. */
async function ending(socket: Socket): Promise<string | undefined> {
  let code: string | undefined;
  socket.on('error', (error: NodeJS.ErrnoException) => (code = error.code)).resume();
  await new Promise((resolve) => socket.on('close', resolve));
  return code;
}

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  await t.test('arguments', async (t) => {
    for (const bad of [undefined, null, {}, 'server', new Socket()] as unknown[] as Server[]) {
      t.throws(() => intercept(bad), {
        name: 'TypeError',
        code: 'ERR_INVALID_ARG_TYPE',
        message: /"server"/,
      });

      const backToNode = pretendBun();
      t.teardown(backToNode);
      // Bun's http.Server is no net.Server, and its connections are accepted out of sight.
      t.throws(() => intercept({ listen() {} } as never), { code: 'ERR_UNSUPPORTED_RUNTIME', hint: String });
      t.throws(() => intercept({} as never), { code: 'ERR_INVALID_ARG_TYPE' });
      backToNode();
    }
    const server = createNetServer();
    for (const bad of [null, 5, 'emit'] as unknown[] as InterceptOptions[]) {
      t.throws(() => intercept(server, bad), { code: 'ERR_INVALID_ARG_TYPE', message: /"options"/ });
    }
    for (const name of ['direct', 'unknown']) {
      for (const bad of ['drop', 5, null, true]) {
        t.throws(() => intercept(server, { [name]: bad }), {
          name: 'RangeError',
          code: 'ERR_OUT_OF_RANGE',
          message: new RegExp(`"options.${name}".*'emit' or 'reset'`),
        });
      }
    }
    for (const bad of [1, 'yes', null] as unknown[] as boolean[]) {
      t.throws(() => intercept(server, { transparent: bad }), {
        code: 'ERR_INVALID_ARG_TYPE',
        message: /"options.transparent"/,
      });
    }
    t.notOk('interceptStats' in server, 'a refused server is left as it was');
    t.notOk(Object.hasOwn(server, 'emit'));
    intercept(server);
    t.throws(() => intercept(server), { code: 'ERR_ALREADY_INTERCEPTED' });
    t.throws(() => createServer({ direct: 'drop' as 'emit' }), { code: 'ERR_OUT_OF_RANGE' });
    t.throws(() => createServer('x' as never), { code: 'ERR_INVALID_ARG_TYPE' });
  });

  await t.test('createServer in all its forms', async (t) => {
    const seen: unknown[] = [];
    const listener = (socket: InterceptedSocket): void => void seen.push(socket.originalDst.kind);
    for (const server of [
      createServer(listener),
      createServer({}, listener),
      createServer(undefined, listener),
      createServer().on('connection', listener),
      createServer({ direct: 'emit', unknown: 'emit', allowHalfOpen: true }).on('connection', listener),
    ]) {
      t.type(server, Server);
      await accepted(t, server, await redirected(t, server), '127.0.0.1');
    }
    t.same(seen, ['direct', 'direct', 'direct', 'direct', 'direct']);
  });

  await t.test('listeners of every kind see the destination, in their own order', async (t) => {
    const server = createNetServer();
    const seen: string[] = [];
    const see = (name: string) => (socket: Socket) => seen.push(`${name} ${originalDst(socket)?.kind}`);
    server.on('connection', see('before'));
    intercept(server);
    server.on('connection', see('after'));
    server.prependListener('connection', see('first'));
    server.once('connection', see('once'));
    t.equal(server.listenerCount('connection'), 4);
    await redirected(t, server);
    await accepted(t, server, 80, DESTINATION);
    t.same(
      seen,
      ['first', 'before', 'after', 'once'].map((name) => `${name} redirect`),
    );
  });

  await t.test('direct: reset', async (t) => {
    const server = createServer({ direct: 'reset' });
    const seen: Socket[] = [];
    server.on('connection', (socket) => seen.push(socket));
    const port = await redirected(t, server);
    t.equal(await ending(client(t, port, '127.0.0.1')), 'ECONNRESET');
    t.equal(await ending(client(t, port, '::1')), 'ECONNRESET');
    t.equal(seen.length, 0);
    t.match(server.interceptStats, { direct: 2, reset: 2, redirect: 0, errors: {} });
    const socket = await accepted<InterceptedSocket>(t, server, 80, DESTINATION);
    t.equal(socket.originalDst.kind, 'redirect');
    t.match(server.interceptStats, { direct: 2, reset: 2, redirect: 1 });
    const [count] = await new Promise<[number]>((resolve, reject) => {
      server.getConnections((error, count) => (error ? reject(error) : resolve([count])));
    });
    t.equal(count, 1, 'the others are no connections of the server any more');
  });

  await t.test('direct: reset, with connections that are paused, and with TLS', async (t) => {
    const paused = createServer({ direct: 'reset', pauseOnConnect: true }, () => t.fail('must not be seen'));
    t.equal(await ending(client(t, await redirected(t, paused), '127.0.0.1')), 'ECONNRESET');
    const secure = intercept(tls.createServer(makeCertificate()), { direct: 'reset' });
    secure.on('secureConnection', () => t.fail('must not be seen'));
    secure.on('tlsClientError', () => t.fail('must not be seen'));
    const port = await redirected(t, secure);
    t.equal(await ending(tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false })), 'ECONNRESET');
    t.match(secure.interceptStats, { direct: 1, reset: 1 });
  });

  await t.test('unknown: reset', async (t) => {
    const server = createServer({ unknown: 'reset' }, () => t.fail('must not be seen'));
    await redirected(t, server);
    rules(t, 'inet', ZONED);
    t.equal(await ending(client(t, 80, DESTINATION)), 'ECONNRESET');
    t.match(server.interceptStats, { unknown: 1, reset: 1, errors: { ENOENT: 1 } });
  });

  await t.test('a unix-domain socket: unknown, and closed where it would be reset', async (t) => {
    const path = unixPath(t);
    const open = createServer().listen(path);
    await once(open, 'listening');
    const connection = once(open, 'connection');
    connect(path);
    const [socket] = (await connection) as [InterceptedSocket];
    t.match(socket.originalDst, { kind: 'unknown', cause: { code: 'EAFNOSUPPORT' } });
    t.match(open.interceptStats, { unknown: 1, reset: 0, errors: { EAFNOSUPPORT: 1 } });
    socket.destroy();
    open.close();
    await once(open, 'close');

    const closed = createServer({ unknown: 'reset' }, () => t.fail('must not be seen')).listen(path);
    await once(closed, 'listening');
    t.teardown(() => closed.close());
    await ending(connect(path));
    t.match(closed.interceptStats, { unknown: 1, reset: 1 });
  });

  await t.test('handed from one intercepted server to another', async (t) => {
    const back = createServer({ direct: 'reset' }, (socket) => socket.end('back'));
    await listening(t, back);
    const seen = new Set<Socket>();
    const front = createServer((socket) => {
      if (seen.has(socket)) return void back.emit('connection', socket);
      seen.add(socket);
      return void front.emit('connection', socket); // once more to itself, as programs do that tell protocols apart
    });
    const port = await redirected(t, front);
    const [data] = await once(client(t, 80, DESTINATION), 'data');
    t.equal(String(data), 'back');
    t.equal(await ending(client(t, port, '127.0.0.1')), 'ECONNRESET', 'by the rules of the second');
    t.match(front.interceptStats, { redirect: 1, direct: 1, reset: 0 }, 'each counted once');
    t.match(back.interceptStats, { redirect: 1, direct: 1, reset: 1 });
  });

  await t.test('handed over inside TLS, to a server that refuses it', async (t) => {
    const back = createServer({ direct: 'reset' }, () => t.fail('must not be seen'));
    const front = tls.createServer(makeCertificate(), (socket) => back.emit('connection', socket));
    const port = await redirected(t, front);
    await ending(tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false }));
    t.match(back.interceptStats, { direct: 1, reset: 1 });
  });

  await t.test('handed over by a server that listens elsewhere', async (t) => {
    // Compared with the address of the server that accepted it, not of the one that handles it.
    const back = createServer();
    await listening(t, back);
    const front = createNetServer((socket) => back.emit('connection', socket));
    const port = await redirected(t, front);
    const connection = once(back, 'connection');
    client(t, port, '127.0.0.1');
    const [socket] = (await connection) as [InterceptedSocket];
    t.match(socket.originalDst, { kind: 'direct', address: '127.0.0.1', port });
    const lost = once(back, 'connection');
    await dialled(t, 80, DESTINATION);
    flushConntrack();
    const [unknown] = (await lost) as [InterceptedSocket];
    t.match(unknown.originalDst, { kind: 'unknown' }, 'not taken for TPROXY because the port is not ours');
    socket.destroy();
    unknown.destroy();
  });

  await t.test('what the program emits itself passes through', async (t) => {
    const server = createServer();
    const seen: unknown[] = [];
    server.on('connection', (socket) => seen.push(socket));
    const closed = new Socket();
    const stream = new Duplex();
    t.equal(server.emit('connection', closed), true);
    t.equal(server.emit('connection', stream as Socket), true);
    t.equal((server as Server).emit('other', 1, 2, 3), false);
    t.same(seen.length, 2);
    t.equal(originalDst(closed), undefined);
    t.match(server.interceptStats, { unknown: 0, direct: 0 });
  });

  await t.test(
    'an emit of the prototype that comes later is asked, one of the server’s own stays',
    async (t) => {
      class Traced extends Server {}
      const seen: string[] = [];
      const tracer = (name: string) =>
        function (this: Server, event: string, ...args: unknown[]): boolean {
          seen.push(`${name} ${event}`);
          return Reflect.apply(Server.prototype.emit, this, [event, ...args]) as boolean;
        };
      const server = intercept(new Traced());
      t.equal(server.emit('nobody'), false);
      Traced.prototype.emit = tracer('prototype');
      t.equal(server.emit('nobody'), false);
      t.same(seen, ['prototype nobody']);

      const { emit } = EventEmitter.prototype;
      t.teardown(() => (EventEmitter.prototype.emit = emit));
      const plain = intercept(createNetServer());
      EventEmitter.prototype.emit = function (event, ...args) {
        if (this === plain) seen.push(`emitter ${String(event)}`);
        return Reflect.apply(emit, this, [event, ...args]);
      };
      plain.on('connection', (socket: InterceptedSocket) => socket.end(JSON.stringify(socket.originalDst)));
      const port = await listening(t, plain);
      t.match(JSON.parse(await text(client(t, port, '127.0.0.1'))), { kind: String }, 'intercepted still');
      t.same(seen.slice(1), ['emitter listening', 'emitter connection']);
      EventEmitter.prototype.emit = emit;

      seen.length = 0;
      const owner = new Traced();
      owner.emit = tracer('own');
      intercept(owner);
      Traced.prototype.emit = tracer('prototype');
      owner.emit('nobody');
      t.same(seen, ['own nobody']);
    },
  );

  await t.test('closes and listens again on another address and port', async (t) => {
    rules(t, 'inet', TRACKING);
    const server = createServer();
    for (const host of ['127.0.0.1', '127.0.0.2', '::1']) {
      server.listen(0, host);
      await once(server, 'listening');
      const { port } = server.address() as { port: number };
      const socket = await accepted<InterceptedSocket>(t, server, port, host);
      // With the address of the first listener this would be `tproxy`.
      t.match(socket.originalDst, { kind: 'direct', address: host, port });
      socket.destroy();
      server.close();
      await once(server, 'close');
    }
    t.match(server.interceptStats, { direct: 3, tproxy: 0 });
  });

  await t.test('two servers, each with its own counters', async (t) => {
    const [one, two] = [createServer(), createServer()];
    const first = await redirected(t, one);
    const second = await listening(t, two);
    t.match((await accepted<InterceptedSocket>(t, two, second, '127.0.0.1')).originalDst, { port: second });
    t.match((await accepted<InterceptedSocket>(t, one, first, '127.0.0.1')).originalDst, { port: first });
    await accepted(t, one, 80, DESTINATION);
    t.match(one.interceptStats, { redirect: 1, direct: 1 });
    t.match(two.interceptStats, { redirect: 0, direct: 1 });
  });

  await t.test('diagnostics_channel', async (t) => {
    const server = createServer({ unknown: 'reset' });
    await redirected(t, server);
    await accepted(t, server, 80, DESTINATION); // nobody listens
    const messages: [string, Record<string, unknown>][] = [];
    const connections = (message: unknown): void => {
      messages.push(['connection', message as Record<string, unknown>]);
    };
    const errors = (message: unknown): void => {
      messages.push(['error', message as Record<string, unknown>]);
    };
    subscribe('original-dst:connection', connections);
    subscribe('original-dst:error', errors);
    server.on('connection', () => t.equal(messages.length, 1, 'published before the handlers run'));
    const socket = await accepted<InterceptedSocket>(t, server, 80, DESTINATION);
    rules(t, 'inet', ZONED);
    t.equal(await ending(client(t, 80, DESTINATION)), 'ECONNRESET');
    unsubscribe('original-dst:connection', connections);
    unsubscribe('original-dst:error', errors);
    t.same(
      messages.map(([name]) => name),
      ['connection', 'error', 'connection'],
    );
    for (const [, message] of messages) t.equal(message['server'], server);
    t.equal(messages[0]![1]['socket'], socket);
    t.equal(messages[0]![1]['originalDst'], socket.originalDst);
    t.match(messages[1]![1]['error'], { code: 'ENOENT' });
    t.match(messages[2]![1]['originalDst'], { kind: 'unknown' });
  });
});
