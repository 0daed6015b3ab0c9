// createRelayServer({ inspect }): what first bytes say reaches the policy, and every byte the destination.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createRelayServer, type FirstBytes, type RelayInspectOptions } from '../../lib/index.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { alpn, hello, helloMessage, paddedHello, records, serverName } from '../fixtures/hellos.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { relayNetwork, start, until } from '../fixtures/relay-network.ts';
import { readAll } from '../fixtures/relay-world.ts';

const PLACE = '198.51.100.7';
const HEAD = 'GET / HTTP/1.1\r\nHost: a.example\r\n\r\n';

/** Sends the pieces, each by itself, ends, and returns what the echo server has sent back. */
async function say(pieces: Buffer[], port = 7000, address = PLACE): Promise<{ data: Buffer; end: string }> {
  const socket = connect({ port, host: address, allowHalfOpen: true, noDelay: true }).on('error', () => {});
  await once(socket, 'connect');
  for (const piece of pieces) {
    await new Promise((resolve) => socket.write(piece, resolve));
    if (pieces.length > 1) await sleep(0);
  }
  socket.end();
  return readAll(socket);
}

async function inspecting(
  inspect: RelayInspectOptions,
  decide: (first: FirstBytes | undefined) => 'relay' | 'reset' = () => 'relay',
) {
  const seen: (FirstBytes | undefined)[] = [];
  const server = await start({
    mark: 7,
    inspect,
    decide: (_destination, _client, first) => {
      seen.push(first);
      return decide(first);
    },
  });
  return { server, seen };
}

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);

  t.test('what the policy is told, and what the destination gets', async (t) => {
    const { server, seen } = await inspecting({});
    const tls = hello({ extensions: [serverName('A.example'), alpn('h2')] });
    const whole = [
      tls,
      Buffer.from(HEAD),
      Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
      Buffer.from('SSH-2.0-x\r\n'),
    ];
    for (const bytes of whole) t.same(await say([bytes]), { data: bytes, end: 'fin' });
    t.match(seen, [
      { protocol: 'tls', name: 'a.example', alpn: ['h2'], ech: false, bytes: tls },
      { protocol: 'http', name: 'a.example', method: 'GET', target: '/', bytes: Buffer.from(HEAD) },
      { protocol: 'http2' },
      { protocol: 'other', name: undefined, bytes: Buffer.from('SSH-2.0-x\r\n') },
    ]);
    t.same(await say([tls], 7000, '2001:db8::2'), { data: tls, end: 'fin' }, 'IPv6');
    const followed = Buffer.concat([tls, Buffer.alloc(200_000, 'x')]);
    t.same(await say([followed]), { data: followed, end: 'fin' }, 'much behind it');
    t.match(server.stats, { accepted: 6, redirect: 6, undecided: 6, relayed: 6, inspecting: 0, gone: 0 });
    server.destroy();
    await once(server, 'close');
  });

  t.test(
    'a hello in pieces: cut at every byte, byte by byte, of records of one byte, of 16 KiB',
    async (t) => {
      const { server, seen } = await inspecting({ timeout: 60_000 });
      const bytes = hello();
      const cuts = Array.from({ length: bytes.length - 1 }, (_, at) => [
        bytes.subarray(0, at + 1),
        bytes.subarray(at + 1),
      ]);
      const single = Array.from(bytes, (byte) => Buffer.of(byte));
      const tiny = records(helloMessage(), 1);
      const padded = paddedHello('a.example', 16_384);
      const all = [
        ...cuts,
        single,
        [tiny.subarray(0, 333), tiny.subarray(333)],
        [padded.subarray(0, 9000), padded.subarray(9000)],
      ];
      const answers = await Promise.all(all.map((pieces) => say(pieces)));
      t.same(
        answers.filter(({ data, end }, at) => end !== 'fin' || !data.equals(Buffer.concat(all[at]!))),
        [],
        'every byte came back',
      );
      t.equal(seen.length, all.length);
      t.same(
        seen.filter((first) => first?.protocol !== 'tls' || first.name !== 'a.example'),
        [],
      );
      server.destroy();
      await once(server, 'close');
    },
  );

  t.test('after a hello that came in pieces, one byte is a byte', async (t) => {
    const { server } = await inspecting({});
    const socket = connect({ port: 7000, host: PLACE, noDelay: true }).on('error', () => {});
    const bytes = hello();
    socket.write(bytes.subarray(0, 100));
    await until(() => server.stats.inspecting === 1);
    socket.write(bytes.subarray(100));
    let got = 0;
    socket.on('data', (data: Buffer) => (got += data.length));
    await until(() => got === bytes.length);
    for (let i = 1; i <= 3; i++) {
      socket.write('x');
      await until(() => got === bytes.length + i);
      t.equal(got, bytes.length + i);
    }
    socket.destroy();
    server.destroy();
    await once(server, 'close');
  });

  t.test('who says nothing, or not enough', async (t) => {
    const { server, seen } = await inspecting({ timeout: 200 });
    const began = Date.now();
    const silent = connect({ port: 7000, host: PLACE }).on('error', () => {});
    await until(() => seen.length === 1);
    t.ok(Date.now() - began >= 150, 'one timeout');
    silent.write('late');
    t.same(await once(silent, 'data'), [Buffer.from('late')]);
    silent.destroy();
    t.same(await say([]), { data: Buffer.alloc(0), end: 'fin' }, 'FIN and nothing else');
    const cut = hello().subarray(0, 60);
    t.same(await say([cut]), { data: cut, end: 'fin' }, 'FIN in the middle');
    const open = connect({ port: 7000, host: PLACE }).on('error', () => {});
    open.write(cut);
    t.same(await once(open, 'data'), [cut]);
    open.destroy();
    t.match(seen, [
      { protocol: 'silent', name: undefined, bytes: Buffer.alloc(0) },
      { protocol: 'silent' },
      { protocol: 'tls', name: undefined, bytes: cut },
      { protocol: 'tls', name: undefined, bytes: cut },
    ]);
    server.destroy();
    await once(server, 'close');
  });

  t.test('no more than maxBytes, and no waiting for more', async (t) => {
    const { server, seen } = await inspecting({ timeout: 60_000, maxBytes: 1000 });
    const long = Buffer.from(HEAD.replace('\r\n\r\n', `\r\nX: ${'y'.repeat(2000)}\r\n\r\n`));
    t.same(await say([long]), { data: long, end: 'fin' });
    t.match(seen, [{ protocol: 'http', name: undefined, bytes: long.subarray(0, 1000) }]);
    const open = connect({ port: 7000, host: PLACE }).on('error', () => {});
    const start = paddedHello('a.example', 1001).subarray(0, 10);
    open.write(start);
    t.same(await once(open, 'data'), [start], 'a hello that says it is larger');
    t.match(seen[1], { protocol: 'tls', name: undefined, bytes: start });
    open.destroy();
    server.destroy();
    await once(server, 'close');
  });

  t.test('a client that dribbles is looked at now and then, and is served all the same', async (t) => {
    const { server, seen } = await inspecting({ timeout: 60_000 });
    const head = Buffer.from(HEAD);
    const pieces = Array.from(head, (byte) => Buffer.of(byte));
    const others = Array.from({ length: 5 }, () => say(pieces));
    for (const { data } of await Promise.all(others)) t.same(data, head);
    t.same(
      seen.filter((first) => first?.name !== 'a.example'),
      [],
    );
    server.destroy();
    await once(server, 'close');
  });

  t.test('ports that are not listed are decided about at once', async (t) => {
    const { server, seen } = await inspecting({ ports: [443, 7001, 80], timeout: 60_000 });
    const socket = connect({ port: 7000, host: PLACE }).on('error', () => {});
    await until(() => seen.length === 1);
    t.same(seen, [undefined]);
    socket.destroy();
    const listed = connect({ port: 7001, host: PLACE }).on('error', () => {});
    await until(() => server.stats.inspecting === 1);
    listed.write(hello());
    await until(() => seen.length === 2);
    t.match(seen[1], { name: 'a.example' });
    listed.destroy();
    server.destroy();
    await once(server, 'close');
  });

  t.test('what becomes of those that wait', async (t) => {
    const before = openSockets();
    const { server, seen } = await inspecting({ timeout: 60_000 });
    const dial = (): Socket => connect({ port: 7000, host: PLACE }).on('error', () => {});
    const [gone, ended, ...rest] = [dial(), dial(), dial(), dial()];
    for (const one of rest) one.write('GET /');
    await until(() => server.stats.inspecting === 4);
    gone!.resetAndDestroy();
    await until(() => server.stats.gone === 1);
    t.match(server.stats, { inspecting: 3, gone: 1, undecided: 0 });
    let over = false;
    server.close(() => (over = true));
    ended!.end();
    await readAll(ended!);
    t.match(seen, [{ protocol: 'silent' }]);
    t.notOk(over, 'close() waits for the first bytes');
    const answers = rest.map(readAll);
    server.destroy();
    for (const { end } of await Promise.all(answers)) t.equal(end, 'ECONNRESET');
    await until(() => over);
    t.ok(over);
    t.equal(server.stats.inspecting, 0);
    t.same(await socketsLeft(before), []);

    const last = await inspecting({ timeout: 60_000 });
    const waiting = dial();
    await until(() => last.server.stats.inspecting === 1);
    last.server.close();
    waiting.write(HEAD);
    t.same(await once(waiting, 'data'), [Buffer.from(HEAD)], 'decided about after close()');
    waiting.destroy();
    await once(last.server, 'close');
  });

  t.test('emit: the socket has all the bytes', async (t) => {
    const server = await start({ inspect: {}, decide: () => 'emit' });
    const bytes = hello();
    const given = once(server, 'connection') as Promise<[Socket]>;
    const client = connect({ port: 7000, host: PLACE }).on('error', () => {});
    client.write(bytes);
    const [socket] = await given;
    t.same(await once(socket, 'data'), [bytes]);
    socket.end('x');
    client.end();
    t.equal(String((await readAll(client)).data), 'x');
    server.destroy();
    await once(server, 'close');
  });
});

t.test('options', (t) => {
  const decide = (): 'reset' => 'reset';
  for (const [inspect, code] of [
    [true, 'ERR_INVALID_ARG_TYPE'],
    [null, 'ERR_INVALID_ARG_TYPE'],
    [{ ports: 443 }, 'ERR_INVALID_ARG_TYPE'],
    [{ ports: ['443'] }, 'ERR_INVALID_ARG_TYPE'],
    [{ ports: [0] }, 'ERR_OUT_OF_RANGE'],
    [{ timeout: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ maxBytes: 65_537 }, 'ERR_OUT_OF_RANGE'],
    [{ size: 1 }, 'ERR_INVALID_ARG_VALUE'],
  ] as const) {
    t.throws(
      () => createRelayServer({ decide, inspect: inspect as never }),
      { code },
      JSON.stringify(inspect),
    );
  }
  createRelayServer({ decide, inspect: { ports: [], timeout: 1, maxBytes: 65_536 } });
  t.end();
});
