// inspect(): what a socket's client says first, and that whoever reads the socket next gets all of it.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { inspect, relay } from '../../lib/index.ts';
import { readInspectLimits } from '../../lib/names/limits.ts';
import { hello, paddedHello, serverName } from '../fixtures/hellos.ts';
import { connections, readAll } from '../fixtures/relay-world.ts';

const HEAD = Buffer.from('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');

async function pair(t: Test, pauseOnConnect = false): Promise<{ dialled: Socket; accepted: Socket }> {
  return (await connections(t, { pauseOnConnect }))();
}

t.test('how long and how much, where nobody says', (t) => {
  t.same(readInspectLimits({}, 'options'), { timeout: 3000, maxBytes: 16_384 });
  t.end();
});

t.test('the bytes are put back, with what came behind them', async (t) => {
  const { dialled, accepted } = await pair(t);
  const bytes = hello({ extensions: [serverName('A.example')] });
  dialled.write(bytes);
  const first = await inspect(accepted);
  t.match(first, { protocol: 'tls', name: 'a.example', ech: false, bytes });
  dialled.end('and more');
  t.same((await readAll(accepted)).data, Buffer.concat([bytes, Buffer.from('and more')]));
});

t.test('byte by byte, larger than a stream buffers', async (t) => {
  const { dialled, accepted } = await pair(t);
  const bytes = paddedHello('a.example', 50_000);
  const first = inspect(accepted, { maxBytes: 65_536, timeout: 60_000 });
  dialled.setNoDelay(true);
  for (const byte of bytes.subarray(0, 200)) {
    dialled.write(Buffer.of(byte));
    await sleep(0);
  }
  for (let at = 200; at < bytes.length; at += 7000) {
    dialled.write(bytes.subarray(at, at + 7000));
    await sleep(1);
  }
  t.match(await first, { name: 'a.example', bytes });
  dialled.end();
  t.same((await readAll(accepted)).data, bytes);
});

t.test('paused sockets stay paused', async (t) => {
  for (const pauseOnConnect of [false, true]) {
    const { dialled, accepted } = await pair(t, pauseOnConnect);
    if (!pauseOnConnect) accepted.pause();
    dialled.write(HEAD);
    t.match(await inspect(accepted), { protocol: 'http', name: 'a.example' });
    t.equal(accepted.isPaused(), true);
    let got = 0;
    accepted.on('data', (data: Buffer) => (got += data.length));
    await sleep(20);
    t.equal(accepted.isPaused(), true);
    t.equal(got, 0);
    accepted.resume();
    await once(accepted, 'data');
    t.equal(got, HEAD.length);
  }
  const { accepted, dialled } = await pair(t);
  dialled.write(HEAD);
  await inspect(accepted);
  t.equal(accepted.readableFlowing, null, 'as it was');
  t.equal(accepted.listenerCount('readable') + accepted.listenerCount('error'), 1, 'the test’s own');
});

t.test('a client that has ended', async (t) => {
  const { dialled, accepted } = await pair(t);
  const cut = hello().subarray(0, 50);
  dialled.end(cut);
  t.match(await inspect(accepted, { timeout: 60_000 }), { protocol: 'tls', name: undefined, bytes: cut });
  t.equal(accepted.destroyed, false);
  t.same(await readAll(accepted), { data: cut, end: 'fin' });
  accepted.end('answer');
  t.same((await readAll(dialled)).data, Buffer.from('answer'), 'it waits for its answer');

  const late = await pair(t);
  late.dialled.write(cut);
  const answer = inspect(late.accepted, { timeout: 60_000 });
  await sleep(20);
  late.dialled.end();
  t.match(await answer, { protocol: 'tls', name: undefined, bytes: cut });
  t.same(await readAll(late.accepted), { data: cut, end: 'fin' });

  const silent = await pair(t);
  silent.dialled.end();
  t.match(await inspect(silent.accepted, { timeout: 60_000 }), {
    protocol: 'silent',
    bytes: Buffer.alloc(0),
  });
});

t.test('time and size', async (t) => {
  const { dialled, accepted } = await pair(t);
  t.match(await inspect(accepted, { timeout: 20 }), { protocol: 'silent', ech: false });
  dialled.write(HEAD.subarray(0, 20));
  t.match(await inspect(accepted, { timeout: 100 }), { protocol: 'http', bytes: HEAD.subarray(0, 20) });
  t.match(await inspect(accepted, { maxBytes: 10, timeout: 60_000 }), { bytes: HEAD.subarray(0, 10) });
  dialled.end(HEAD.subarray(20));
  t.match(
    await inspect(accepted, { timeout: 60_000 }),
    { name: 'a.example' },
    'once more, and with the rest',
  );
  t.same((await readAll(accepted)).data, HEAD);
});

t.test('relay() afterwards', async (t) => {
  const make = await connections(t);
  const [left, right] = [await make(), await make()];
  left.dialled.write(HEAD);
  await inspect(left.accepted);
  relay(left.accepted, right.dialled);
  left.dialled.end('behind');
  t.same((await readAll(right.accepted)).data, Buffer.concat([HEAD, Buffer.from('behind')]));
});

t.test('aborted, closed, broken', async (t) => {
  const { dialled, accepted } = await pair(t);
  const aborter = new AbortController();
  dialled.write(HEAD.subarray(0, 20));
  const waiting = inspect(accepted, { signal: aborter.signal });
  await sleep(20);
  aborter.abort(new Error('enough'));
  await t.rejects(waiting, { message: 'enough' });
  await t.rejects(inspect(accepted, { signal: aborter.signal }), { message: 'enough' });
  t.equal(accepted.destroyed, false);
  dialled.end(HEAD.subarray(20));
  t.same((await readAll(accepted)).data, HEAD, 'nothing is lost');

  const reset = await pair(t);
  const broken = inspect(reset.accepted);
  reset.dialled.resetAndDestroy();
  await t.rejects(broken, { code: 'ERR_CLIENT_GONE', cause: { code: 'ECONNRESET' } });
  await t.rejects(inspect(reset.accepted), { code: 'ERR_CLIENT_GONE' });

  const closed = await pair(t);
  closed.dialled.write(HEAD.subarray(0, 5));
  const gone = inspect(closed.accepted);
  await sleep(10);
  closed.accepted.destroy();
  await t.rejects(gone, { code: 'ERR_CLIENT_GONE', cause: undefined });
});

t.test('arguments', async (t) => {
  const { dialled, accepted } = await pair(t);
  await t.rejects(inspect({} as never), { code: 'ERR_INVALID_ARG_TYPE' });
  await t.rejects(inspect(accepted, { timeout: 0 }), { code: 'ERR_OUT_OF_RANGE' });
  await t.rejects(inspect(accepted, { maxBytes: 1e9 }), { code: 'ERR_OUT_OF_RANGE' });
  await t.rejects(inspect(accepted, { signal: 1 as never }), { code: 'ERR_INVALID_ARG_TYPE' });
  await t.rejects(inspect(accepted, { ports: [1] } as never), { code: 'ERR_INVALID_ARG_VALUE' });
  const listener = (): void => {};
  accepted.on('data', listener).pause();
  await t.rejects(inspect(accepted), { code: 'ERR_INSPECT_UNREADABLE', hint: /data/ });
  accepted.off('data', listener).resume();
  await t.rejects(inspect(accepted), { code: 'ERR_INSPECT_UNREADABLE', hint: /data/ });
  dialled.setEncoding('utf8');
  await t.rejects(inspect(dialled), { code: 'ERR_INSPECT_UNREADABLE', hint: /setEncoding/ });
  dialled.end();
  await once(accepted, 'end');
});
