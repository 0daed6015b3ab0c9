// relay() to a destination: given up before and during the dial, counted, over streams, arguments.
import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import t from 'tap';
import { createServer, relay } from '../../lib/index.ts';
import { dialNetwork, leakFree, SILENT, whoami } from '../fixtures/dialling.ts';
import { pretendBun } from '../fixtures/foreign-runtime.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { type Connection, connections, deadPort, far, outcome, readAll } from '../fixtures/relay-world.ts';

await inNamespace(t, import.meta.url, async () => {
  dialNetwork();

  for (const engine of ['native', 'pipe', 'any'] as const) {
    t.test(`moved by ${engine}`, async (t) => {
      const make = await connections(t);

      t.test('ended before and during the dial', async (t) => {
        await leakFree(t, async () => {
          const heard: Promise<{ end: string }>[] = [];
          const clients: Socket[] = [];
          const start = async (options: object = {}): Promise<[Connection, ReturnType<typeof relay>]> => {
            const one = await make();
            heard.push(readAll(one.dialled));
            clients.push(one.dialled);
            return [one, relay(one.accepted, SILENT, { engine, ...options })];
          };
          const [, aborted] = await start({ signal: AbortSignal.abort() });
          t.same(await outcome(aborted), { reason: 'aborted' });
          const controller = new AbortController();
          const [, abortedLater] = await start({ signal: controller.signal });
          setImmediate(() => controller.abort());
          t.same(await outcome(abortedLater), { reason: 'aborted' });
          const [, atOnce] = await start();
          t.same(await outcome(atOnce.destroy()), { reason: 'aborted' });
          t.same(await Promise.all(heard).then((all) => all.map(({ end }) => end)), ['fin', 'fin', 'fin']);

          const [{ dialled }, reset] = await start();
          dialled.resetAndDestroy();
          t.same(await outcome(reset), { reason: 'reset', side: 'client' });

          const gone = await make();
          gone.accepted.destroy();
          const never = relay(gone.accepted, SILENT, { engine });
          t.same(await outcome(never), { reason: 'aborted', side: 'client' });
          const writing = await make();
          writing.accepted.write(Buffer.alloc(20 * 1024 * 1024));
          const waits = relay(writing.accepted, SILENT, { engine });
          writing.accepted.destroy();
          t.same(await outcome(waits), { reason: 'aborted', side: 'client' });
          const silent = connect({ host: SILENT.address, port: SILENT.port });
          const waitsLong = relay(silent, SILENT, { engine, connectTimeout: 50 });
          t.match(await outcome(waitsLong), {
            reason: 'error',
            side: 'client',
            error: { code: 'ETIMEDOUT' },
          });
          for (const one of [...clients, gone.dialled, writing.dialled]) one.destroy();
        });
      });

      t.test('its server goes on counting the client', async (t) => {
        const { to, next } = await far(t);
        const server = createServer({ allowHalfOpen: true });
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        const atServer = once(server, 'connection');
        const left = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' });
        const [client] = (await atServer) as [Socket];
        const atRight = next();
        const joined = relay(client, to, { engine });
        const right = await atRight;
        const count = promisify(server.getConnections.bind(server));
        t.equal(await count(), 1);
        const closing = once(server.close(), 'close');
        left.end();
        right.end();
        left.resume();
        right.resume();
        t.same(await outcome(joined), { reason: 'end' });
        await closing;
        t.equal(await count(), 0);
      });
    });
  }

  t.test('many at once, of which some fail and some are given up: no descriptor is left', async (t) => {
    const make = await connections(t);
    const { port } = await whoami(t, '127.0.0.1');
    const dead = await deadPort();
    await leakFree(t, async () => {
      const ends = [];
      for (let i = 0; i < 150; i++) {
        const { dialled: left, accepted: client } = await make();
        const to = [{ address: '127.0.0.1', port }, { address: '127.0.0.1', port: dead }, SILENT][i % 3]!;
        const joined = relay(client, to);
        left.resume().end('x');
        if (i % 3 === 2) {
          if (i % 2 === 0) joined.destroy();
          else setImmediate(() => joined.destroy());
        }
        ends.push(outcome(joined).then(({ reason }) => reason));
      }
      const reasons = await Promise.all(ends);
      t.same(
        reasons,
        reasons.map((_, i) => ['end', 'error', 'aborted'][i % 3]),
      );
    });
  });

  t.test('streams dial where the addon cannot have the client', async (t) => {
    const make = await connections(t);
    const { to, next } = await far(t);
    const { dialled: left, accepted: client } = await make();
    client.setEncoding('latin1');
    t.throws(() => relay(client, to), { code: 'ERR_RELAY_DECODED' });
    const atRight = next();
    const tls = new TLSSocket(client, { isServer: true });
    const joined = relay(tls, to, { engine: 'any' });
    const right = await atRight;
    const seen = readAll(right);
    left.end('not the start of a handshake');
    t.match(await outcome(joined), { reason: 'error', side: 'client', error: { code: /^ERR_SSL_/ } });
    t.equal((await seen).end, 'ECONNRESET');

    const later = await make();
    later.accepted.write(Buffer.alloc(20 * 1024 * 1024));
    const decoded = relay(later.accepted, to);
    later.accepted.setEncoding('utf8');
    later.dialled.resume();
    t.match(await outcome(decoded), {
      reason: 'error',
      side: 'client',
      error: { code: 'ERR_RELAY_DECODED' },
    });
  });

  t.test('runtimes whose sockets cannot be handed over', async (t) => {
    const make = await connections(t);
    const { to, next } = await far(t);
    const { dialled: left, accepted: client } = await make();
    t.teardown(pretendBun());
    t.throws(() => relay(client, to), { code: 'ERR_UNSUPPORTED_RUNTIME', hint: /engine: 'any'/ });
    t.throws(() => relay(client, to, { engine: 'any', dial: { mark: 1 } }), {
      code: 'ERR_UNSUPPORTED_RUNTIME',
    });
    const atRight = next();
    const joined = relay(client, to, { engine: 'any' });
    const right = await atRight;
    left.end('by streams');
    right.end();
    left.resume();
    t.equal(String((await readAll(right)).data), 'by streams');
    t.same(await outcome(joined), { reason: 'end' });
  });

  t.test('arguments', async (t) => {
    const make = await connections(t);
    const { accepted: client, dialled } = await make();
    const call = relay as (...values: unknown[]) => unknown;
    const to = { address: '192.0.2.1', port: 80 };
    t.throws(() => call({}, to), { code: 'ERR_INVALID_ARG_TYPE', message: /client/ });
    t.throws(() => call(client, 'localhost'), { code: 'ERR_INVALID_ARG_TYPE', message: /upstream/ });
    t.throws(() => call(client, { kind: 'unknown' }), {
      code: 'ERR_INVALID_ARG_TYPE',
      message: /upstream.address/,
    });
    t.throws(() => call(client, { ...to, port: '80' }), {
      code: 'ERR_INVALID_ARG_TYPE',
      message: /upstream.port/,
    });
    t.throws(() => call(client, { ...to, port: 65536 }), { code: 'ERR_OUT_OF_RANGE' });
    t.throws(() => call(client, { ...to, address: 'localhost' }), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /localhost/,
      hint: /connect/,
    });
    const dial = (value: unknown) => () => call(client, to, { dial: value });
    t.throws(dial(null), { code: 'ERR_INVALID_ARG_TYPE', message: /options/ });
    t.throws(dial({ mark: -1 }), { code: 'ERR_OUT_OF_RANGE' });
    t.throws(dial({ egress: [], fd: 3 }), { code: 'ERR_INVALID_ARG_VALUE', message: /fd/ });
    t.throws(dial({ source: { address: '2001:db8::1' } }), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /IPv6/,
    });
    t.throws(() => call(client, dialled, { dial: {} }), { code: 'ERR_INVALID_ARG_VALUE', message: /dial/ });
    t.throws(() => call(client, to, { engine: 'turbo' }), { code: 'ERR_OUT_OF_RANGE' });
    t.notOk(client.destroyed || dialled.destroyed);
    const joined = relay(client, SILENT);
    t.throws(() => relay(client, SILENT), { code: 'ERR_RELAY_BUSY' });
    t.same(await outcome(joined.destroy()), { reason: 'aborted' });
  });
});
