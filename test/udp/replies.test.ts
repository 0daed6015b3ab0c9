// Answers from the original destination.
import { once } from 'node:events';
import { createSocket } from 'node:dgram';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createDatagramSocket } from '../../lib/index.ts';
import { defaultRoutes, inNamespace, sh } from '../fixtures/netns.ts';
import { sockets } from '../fixtures/descriptors.ts';
import { client, nextMessage } from '../fixtures/udp.ts';

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  // Delivered here without any rule (AnyIP): to whatever socket is bound there.
  sh('ip route add local 198.51.100.0/24 dev lo');

  const source = (n: number) => ({ address: `198.51.100.${n}`, port: 53 });

  t.test('sockets to answer from are kept, and not too many', async (t) => {
    const before = sockets().size;
    const socket = createDatagramSocket({ maxReplySockets: 2 });
    t.teardown(() => socket.close());
    const from = await client('udp4', '192.0.2.1');
    t.teardown(() => from.close());
    const destination = from.address();
    for (const n of [1, 2, 1, 3, 2, 3]) {
      t.equal(socket.send(`from ${n}`, { destination, source: source(n) }), undefined);
      const [data, rinfo] = await nextMessage(from);
      t.equal(String(data), `from ${n}`);
      t.match(rinfo, source(n));
      t.ok(socket.stats.replySockets <= 2);
      await sleep(5);
    }
    t.equal(sockets().size, before + 1 + 1 + 2, 'the client, the socket, two to answer from');
    socket.close();
    t.equal(sockets().size, before + 1);
    t.equal(socket.stats.replySockets, 0);
  });

  t.test('the one that was used last stays', async (t) => {
    const socket = createDatagramSocket({ maxReplySockets: 2 });
    t.teardown(() => socket.close());
    const from = await client('udp4', '192.0.2.1');
    t.teardown(() => from.close());
    for (const n of [1, 2, 1, 3]) socket.send('x', { destination: from.address(), source: source(n) });
    await sleep(10);
    const bound = sh('ss -uanH').match(/198\.51\.100\.\d+:53/g);
    t.same(bound?.sort(), ['198.51.100.1:53', '198.51.100.3:53']);
  });

  t.test('idle ones are closed, each in its time', async (t) => {
    const socket = createDatagramSocket({ replySocketTimeout: 800 });
    t.teardown(() => socket.close());
    const destination = { address: '192.0.2.1', port: 9 };
    socket.send('x', { destination, source: source(1) });
    await sleep(400);
    socket.send('x', { destination, source: source(2) });
    t.equal(socket.stats.replySockets, 2);
    while (socket.stats.replySockets === 2) await sleep(5);
    t.match(sh('ss -uanH'), /198\.51\.100\.2:53/);
    while (socket.stats.replySockets === 1) await sleep(5);
    await sleep(10);
    t.notMatch(sh('ss -uanH'), /198\.51\.100\.2:53/);
    t.equal(socket.send('x', { destination, source: source(1) }), undefined, 'and made again');
  });

  t.test('what comes in at a socket to answer from is a message', async (t) => {
    const socket = createDatagramSocket({ maxReplySockets: 1 });
    t.teardown(() => socket.close());
    const from = await client('udp4', '192.0.2.1');
    t.teardown(() => from.close());
    socket.send('question', { destination: from.address(), source: source(1) });
    const [, rinfo] = await nextMessage(from);
    from.send('answer', rinfo.port, rinfo.address);
    const [data, info] = await nextMessage(socket);
    t.equal(String(data), 'answer');
    t.match(info, { destination: { ...source(1), family: 'IPv4' }, source: { address: '192.0.2.1' } });
    t.equal(info.kind, 'tproxy', 'nobody else than the one whose address it is could get it directly');

    // Also what has not been read yet when the socket makes room for another.
    socket.pause();
    from.send('late', rinfo.port, rinfo.address);
    await sleep(20);
    socket.send('x', { destination: from.address(), source: source(2) });
    await sleep(20);
    socket.resume();
    t.equal(String((await nextMessage(socket))[0]), 'late');
    await sleep(10);
    t.notMatch(sh('ss -uanH'), /198\.51\.100\.1:53/, 'closed once it was empty');

    // And closing does not wait for resume().
    socket.pause();
    socket.send('x', { destination: from.address(), source: source(3) });
    socket.close();
    await once(socket, 'close');
    t.notMatch(sh('ss -uanH'), /198\.51\.100/);
  });

  t.test('a socket to answer from that is bound to an address of this host', async (t) => {
    const socket = createDatagramSocket();
    t.teardown(() => socket.close());
    const from = await client('udp4', '192.0.2.1');
    t.teardown(() => from.close());
    const own = { address: '127.0.0.9', port: 53 };
    socket.send('question', { destination: from.address(), source: own });
    const [, rinfo] = await nextMessage(from);
    for (const text of ['one', 'two']) {
      from.send(text, rinfo.port, rinfo.address);
      t.match((await nextMessage(socket))[1], { kind: 'direct', destination: own });
    }
  });

  t.test('a burst of answers from many addresses, from one handler', async (t) => {
    const socket = createDatagramSocket({ maxReplySockets: 1 });
    t.teardown(() => socket.close());
    const from = await client('udp4', '192.0.2.1');
    t.teardown(() => from.close());
    const answers: string[] = [];
    from.on('message', (data, rinfo) => answers.push(`${rinfo.address} ${String(data)}`));
    const questions: string[] = [];
    socket.on('message', (data, info) => {
      questions.push(String(data));
      socket.send(data, { destination: info.source, source: source(Number(String(data))) });
    });
    const expected = Array.from({ length: 20 }, (_, i) => String(i + 1));
    socket.pause();
    for (const n of expected) from.send(n, socket.address().port, '192.0.2.1');
    await sleep(30);
    socket.resume();
    while (answers.length < 20) await sleep(5);
    t.same(questions, expected);
    t.same(
      answers,
      expected.map((n) => `198.51.100.${n} ${n}`),
    );
  });

  t.test('an address that another program holds', async (t) => {
    const resolver = createSocket('udp4');
    t.teardown(() => resolver.close());
    resolver.bind(53);
    await once(resolver, 'listening');
    const socket = createDatagramSocket();
    t.teardown(() => socket.close());
    t.match(socket.send('x', { destination: { address: '192.0.2.1', port: 9 }, source: source(1) }), {
      code: 'EADDRINUSE',
      syscall: 'bind',
      ...source(1),
      hint: /a socket without SO_REUSEADDR holds that port/,
    });
    t.equal(socket.stats.replySockets, 0);
  });

  t.test('a foreign address with the socket’s own port', async (t) => {
    const socket = createDatagramSocket();
    t.teardown(() => socket.close());
    const from = await client('udp4', '192.0.2.1');
    t.teardown(() => from.close());
    const destination = { address: '198.51.100.9', port: socket.address().port };
    from.send('x', destination.port, destination.address);
    const [, info] = await nextMessage(socket);
    t.match(info, { kind: 'tproxy', destination });
    t.equal(socket.reply('y', info), undefined);
    t.match((await nextMessage(from))[1], destination);
    t.equal(socket.stats.replySockets, 0);
  });

  t.test('with the socket’s own port no other socket is needed', async (t) => {
    const socket = createDatagramSocket({ port: 53, transparent: true });
    t.teardown(() => socket.close());
    const v4 = await client('udp4', '192.0.2.1');
    const v6 = await client('udp6', '2001:db8:1::1');
    t.teardown(() => (v4.close(), v6.close()));
    for (const [from, address] of [
      [v4, '203.0.113.9'],
      [v6, '2001:db8:2::9'],
    ] as const) {
      t.equal(socket.send('x', { destination: from.address(), source: { address, port: 53 } }), undefined);
      t.match((await nextMessage(from))[1], { address, port: 53 });
    }
    t.equal(socket.stats.replySockets, 0);
  });

  t.test('one address, however it is spelled, has one socket', async (t) => {
    const socket = createDatagramSocket({ port: 53, transparent: true });
    t.teardown(() => socket.close());
    const v6 = await client('udp6', '2001:db8:1::1');
    t.teardown(() => v6.close());
    for (const address of ['2001:db8:2::9', '2001:DB8:2:0::9', '2001:db8:2:0:0:0:0.0.0.9']) {
      const source = { address, port: 5353 };
      t.equal(socket.send('x', { destination: v6.address(), source }), undefined);
      t.match((await nextMessage(v6))[1], { address: '2001:db8:2::9', port: 5353 });
    }
    t.equal(socket.stats.replySockets, 1);
  });
});
