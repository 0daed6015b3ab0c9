// relay(): bytes, ends, timeouts, errors, by either engine.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { relay } from '../../lib/index.ts';
import {
  closed,
  connections,
  deadPort,
  outcome,
  readAll,
  resetEitherEnd,
  world,
} from '../fixtures/relay-world.ts';

for (const engine of ['native', 'pipe'] as const) {
  t.test(`moved by ${engine}`, async (t) => {
    t.test('bytes both ways, then FIN both ways', async (t) => {
      const { left, client, upstream, right } = await world(t);
      const joined = relay(client, upstream, { engine });
      const closed = outcome(joined);
      const atRight = readAll(right);
      left.end('from the left');
      t.same(await atRight, { data: Buffer.from('from the left'), end: 'fin' });
      t.equal(joined.outcome, undefined, 'half-open is open');
      const atLeft = readAll(left);
      right.end('from the right');
      t.same(await atLeft, { data: Buffer.from('from the right'), end: 'fin' });
      t.same(await closed, { reason: 'end' });
      t.same(joined.outcome, { reason: 'end' });
      t.equal(joined.bytesToUpstream, 13);
      t.equal(joined.bytesToClient, 14);
      t.ok(client.destroyed);
      t.ok(upstream.destroyed);
      t.equal(joined.destroy().unref().ref(), joined, 'nothing left to destroy or to keep alive');
    });

    t.test('live counters', async (t) => {
      const { left, client, upstream, right } = await world(t);
      const joined = relay(client, upstream, { engine }).unref().ref();
      left.write('12345');
      await once(right, 'data');
      t.equal(joined.bytesToUpstream, 5);
      t.equal(joined.bytesToClient, 0);
      right.write('123');
      await once(left, 'data');
      t.equal(joined.bytesToClient, 3);
      joined.destroy();
      t.same(await outcome(joined), { reason: 'aborted' });
      t.equal(joined.bytesToUpstream, 5);
      t.equal(joined.bytesToClient, 3);
    });

    t.test('what was read and unshifted goes first, what was written is finished first', async (t) => {
      const { left, client, upstream, right } = await world(t);
      left.write('one two');
      const [chunk] = (await once(client, 'data')) as [Buffer];
      client.pause();
      left.write(' three');
      await once(client, 'readable');
      client.unshift(chunk);
      right.write('greeting');
      await once(upstream, 'readable');
      upstream.cork();
      upstream.write('preface ');
      client.write('welcome ');
      const joined = relay(client, upstream, { engine });
      left.end(' four');
      right.end();
      t.equal(String((await readAll(right)).data), 'preface one two three four');
      t.equal(String((await readAll(left)).data), 'welcome greeting');
      t.same(await outcome(joined), { reason: 'end' });
    });

    t.test('a large write that the peer does not read yet is finished first', async (t) => {
      const { left, client, upstream, right } = await world(t);
      const large = Buffer.alloc(20 * 1024 * 1024, 'x');
      client.write(large);
      t.ok(client.writableLength > 0, 'does not fit in the socket');
      const joined = relay(client, upstream, { engine });
      right.end('tail');
      left.end();
      right.resume();
      const { data, end } = await readAll(left);
      t.equal(data.length, large.length + 4);
      t.equal(String(data.subarray(-5)), 'xtail');
      t.equal(end, 'fin');
      t.same(await outcome(joined), { reason: 'end' });
    });

    t.test('an upstream that is still connecting, a client that has said all and FIN', async (t) => {
      const make = await connections(t);
      const { dialled: left, accepted: client } = await make();
      const server = createServer((socket) => void socket.end('hello').resume());
      t.teardown(() => server.close());
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      // A host name: there is not even a descriptor yet.
      const upstream = connect((server.address() as AddressInfo).port, 'localhost');
      const joined = relay(client, upstream, { engine }).unref();
      left.end('request');
      t.equal(String((await readAll(left)).data), 'hello');
      t.same(await outcome(joined), { reason: 'end' });
      t.equal(joined.bytesToUpstream, 7);
    });

    t.test('a client that is destroyed while the upstream is still connecting', async (t) => {
      const make = await connections(t);
      const { accepted: client } = await make();
      const server = createServer();
      t.teardown(() => server.close());
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const upstream = connect((server.address() as AddressInfo).port, 'localhost');
      const joined = relay(client, upstream, { engine });
      client.destroy();
      t.same(await outcome(joined), { reason: 'aborted', side: 'client' });
      t.equal(upstream.destroyed, true);
    });

    t.test('an upstream that refuses', async (t) => {
      const make = await connections(t);
      const { dialled: left, accepted: client } = await make();
      const joined = relay(client, connect(await deadPort(), '127.0.0.1'), { engine });
      const atLeft = readAll(left);
      const how = await outcome(joined);
      t.match(how, { reason: 'error', side: 'upstream', error: { code: 'ECONNREFUSED' } });
      t.equal((await atLeft).end, 'ECONNRESET');
      t.equal(joined.bytesToUpstream, 0);
      t.equal(joined.bytesToClient, 0);
    });

    t.test('RST becomes RST, from either side', (t) =>
      resetEitherEnd(t, async () => {
        const { left, client, upstream, right } = await world(t);
        return { left, right, joined: relay(client, upstream, { engine }) };
      }),
    );

    t.test('RST right behind bytes', async (t) => {
      for (const side of ['client', 'upstream'] as const) {
        const { left, client, upstream, right } = await world(t);
        const joined = relay(client, upstream, { engine });
        const [breaker, witness] = side === 'client' ? [left, right] : [right, left];
        // An end that was taken for an orderly one would be answered with one.
        witness.once('end', () => witness.end()).resume();
        // Both are there when the proxy looks.
        breaker.write('a part of it');
        breaker.resetAndDestroy();
        t.same(await outcome(joined), { reason: 'reset', side });
      }
    });

    t.test('RST after FIN of the same side', async (t) => {
      const { left, client, upstream, right } = await world(t);
      const joined = relay(client, upstream, { engine });
      left.end('x');
      t.equal(String((await readAll(right)).data), 'x');
      left.resetAndDestroy();
      // Streams have no reason to look at a socket that has ended, until they write to it.
      if (engine === 'pipe') right.write('into the void');
      t.same(await outcome(joined), { reason: 'reset', side: 'client' });
      const seen = once(right, 'error');
      right.write('into the void');
      // EPIPE is Linux's name for RST behind FIN.
      t.match(await seen, [{ code: /EPIPE|ECONNRESET/ }]);
    });

    t.test('destroy: FIN, or RST for the end that misses bytes', async (t) => {
      const quiet = await world(t);
      const one = relay(quiet.client, quiet.upstream, { engine });
      const seen = Promise.all([readAll(quiet.left), readAll(quiet.right)]);
      one.destroy();
      t.same(
        (await seen).map(({ end }) => end),
        ['fin', 'fin'],
      );
      t.same(await outcome(one), { reason: 'aborted' });

      const full = await world(t);
      const two = relay(full.client, full.upstream, { engine });
      full.right.pause();
      full.left.write(Buffer.alloc(32 * 1024 * 1024));
      while (two.bytesToUpstream === 0) await new Promise(setImmediate);
      const cut = once(full.left, 'error');
      two.destroy();
      t.same(await outcome(two), { reason: 'aborted' });
      t.match(await cut, [{ code: /ECONNRESET|EPIPE/ }], 'the sender learns that not all was taken');
      t.ok((await readAll(full.right)).data.length <= two.bytesToUpstream);
    });

    t.test('AbortSignal', async (t) => {
      const { client, upstream, left } = await world(t);
      const controller = new AbortController();
      const joined = relay(client, upstream, { engine, signal: controller.signal });
      left.write('x');
      while (joined.bytesToUpstream === 0) await new Promise(setImmediate);
      controller.abort();
      t.same(await outcome(joined), { reason: 'aborted' });

      const other = await world(t);
      const never = relay(other.client, other.upstream, { engine, signal: AbortSignal.abort() });
      t.same(never.outcome, { reason: 'aborted' });
      const seen = readAll(other.left);
      await once(never, 'close');
      t.equal((await seen).end, 'fin');
    });

    t.test('idle timeout', async (t) => {
      let counted = false;
      for (let attempt = 0; attempt < 20 && !counted; attempt++) {
        const { client, upstream, left, right } = await world(t);
        const joined = relay(client, upstream, { engine, idleTimeout: 150 });
        const atRight = readAll(right);
        let last = performance.now();
        let longest = 0;
        for (let i = 0; i < 5; i++) {
          await delay(60);
          left.write('x');
          // Until streams have moved it.
          await turn();
          await turn();
          longest = Math.max(longest, performance.now() - last);
          last = performance.now();
        }
        const how = await outcome(joined);
        // A machine that is late with a byte says nothing of the timer.
        counted = longest < 120;
        if (!counted) continue;
        t.same(how, { reason: 'idle' });
        t.ok(performance.now() - last >= 80, 'counted from the last byte');
        t.same(await atRight, { data: Buffer.from('xxxxx'), end: 'fin' });
      }
      t.ok(counted);
    });

    t.test('idle while the sockets are not ready', async (t) => {
      const { client, upstream, left } = await world(t);
      client.write(Buffer.alloc(32 * 1024 * 1024));
      const joined = relay(client, upstream, { engine, idleTimeout: 50 });
      t.same(await outcome(joined), { reason: 'idle' });
      t.ok((await readAll(left)).data.length < 32 * 1024 * 1024);
    });

    t.test('half-close timeout', async (t) => {
      for (const idleTimeout of [0, 60_000]) {
        const { client, upstream, left, right } = await world(t);
        const joined = relay(client, upstream, { engine, idleTimeout, halfCloseTimeout: 100 });
        await new Promise((resolve) => setTimeout(resolve, 150));
        t.equal(joined.outcome, undefined, 'does not count while both directions are open');
        const ended = Date.now();
        left.end('x');
        right.resume();
        t.same(await outcome(joined), { reason: 'idle' });
        t.ok(Date.now() - ended >= 90, 'counted from the FIN');
      }
    });

    t.test('a socket that is gone already', async (t) => {
      for (const how of ['destroyed', 'reset', 'reset, met by a write'] as const) {
        const { client, upstream, left, right } = await world(t);
        if (how === 'destroyed') {
          client.destroy();
        } else {
          left.resetAndDestroy();
          // Not read yet: it is this write that takes the error from the kernel, in the tick of relay().
          if (how === 'reset, met by a write') client.write('x');
          else await closed(client);
        }
        const seen = readAll(right);
        const joined = relay(client, upstream, { engine });
        const result = await outcome(joined);
        t.same(
          result,
          how === 'destroyed' ? { reason: 'aborted', side: 'client' } : { reason: 'reset', side: 'client' },
        );
        t.equal((await seen).end, 'ECONNRESET');
      }
    });

    t.test('a socket that goes while the other is not ready', async (t) => {
      const { client, upstream, left, right } = await world(t);
      upstream.write(Buffer.alloc(32 * 1024 * 1024));
      const joined = relay(client, upstream, { engine });
      left.resetAndDestroy();
      t.same(await outcome(joined), { reason: 'reset', side: 'client' });
      t.ok((await readAll(right)).data.length < 32 * 1024 * 1024);
    });

    t.test('a socket whose writing the caller has ended', async (t) => {
      const { client, upstream, left, right } = await world(t);
      client.end(Buffer.alloc(20 * 1024 * 1024));
      const joined = relay(client, upstream, { engine });
      left.end('last words');
      right.end();
      t.equal((await readAll(left)).data.length, 20 * 1024 * 1024);
      t.equal(String((await readAll(right)).data), 'last words');
      t.same(await outcome(joined), { reason: 'end' });
    });

    t.test('destroy() while the sockets are not ready', async (t) => {
      const { client, upstream } = await world(t);
      client.write(Buffer.alloc(32 * 1024 * 1024));
      const joined = relay(client, upstream, { engine });
      joined.unref().ref();
      joined.destroy();
      t.same(joined.outcome, { reason: 'aborted' });
      t.ok(client.destroyed);
      await once(joined, 'close');
    });

    t.test('slow readers stall only themselves', async (t) => {
      const make = await connections(t);
      const slow = await world(t, make);
      const quick = await world(t, make);
      const stalled = relay(slow.client, slow.upstream, { engine });
      slow.left.write(Buffer.alloc(32 * 1024 * 1024));
      slow.right.pause();
      while (stalled.bytesToUpstream === 0) await new Promise(setImmediate);
      relay(quick.client, quick.upstream, { engine });
      quick.left.end(Buffer.alloc(8 * 1024 * 1024, 'y'));
      t.equal((await readAll(quick.right)).data.length, 8 * 1024 * 1024);
      slow.left.end();
      t.equal((await readAll(slow.right)).data.length, 32 * 1024 * 1024, 'and lose nothing');
    });
  });
}
