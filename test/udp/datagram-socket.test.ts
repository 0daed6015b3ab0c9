// createDatagramSocket(): arguments, events, life.
import { execFileSync } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { getEventListeners, once } from 'node:events';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { createDatagramSocket, type DatagramInfo } from '../../lib/index.ts';
import { sockets } from '../fixtures/descriptors.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { tamper } from '../fixtures/tamper.ts';
import { client, nextMessage } from '../fixtures/udp.ts';

const LOOPBACK = { address: '127.0.0.1' };

await inNamespace(t, import.meta.url, async () => {
  sh('ip addr add 192.0.2.1/32 dev lo && ip route add 224.0.0.0/4 dev lo');

  t.test('a direct datagram, its answer, and all forms of data', async (t) => {
    const socket = createDatagramSocket();
    t.teardown(() => socket.close());
    const { port } = socket.address();
    t.same(socket.address(), { address: '::', port, family: 'IPv6' });
    for (const [type, address] of [
      ['udp4', '127.0.0.2'],
      ['udp4', '192.0.2.1'],
      ['udp6', '::1'],
    ] as const) {
      const from = await client(type);
      const family = type === 'udp4' ? 'IPv4' : 'IPv6';
      from.send('hello', port, address);
      const [data, info] = await nextMessage(socket);
      t.equal(data.toString(), 'hello');
      t.match(info, {
        kind: 'direct',
        destination: { address, port, family },
        local: { address, port, family },
        size: 5,
        truncated: false,
      });
      t.equal(info.source.port, from.address().port);
      for (const form of ['héllo', Buffer.from('héllo'), new DataView(Buffer.from('héllo').buffer)]) {
        t.equal(socket.reply(form, info), undefined);
        const [answer, rinfo] = await nextMessage(from);
        t.ok(answer.includes('héllo'));
        t.match(rinfo, { address, port });
      }
      t.equal(socket.send('unasked', { destination: info.source }), undefined);
      t.equal(String((await nextMessage(from))[0]), 'unasked');
      from.close();
    }
    t.match(socket.stats, { direct: 3, unknown: 0, dropped: 0, errors: {}, replySockets: 0 });
  });

  t.test('multicast is direct, and answered from an address that exists', async (t) => {
    const socket = createDatagramSocket({ address: '0.0.0.0' });
    t.teardown(() => socket.close());
    const { port } = socket.address();
    const other = await client('udp4', '192.0.2.1');
    t.teardown(() => other.close());
    other.addMembership('224.0.0.251', '192.0.2.1');
    other.setMulticastInterface('192.0.2.1');
    other.send('all', port, '224.0.0.251');
    const [, info] = await nextMessage(socket);
    t.match(info, { kind: 'direct', destination: { address: '224.0.0.251', port } });
    t.equal(socket.reply('me', info), undefined);
    const [, rinfo] = await nextMessage(other);
    t.match(rinfo, { address: '192.0.2.1', port });
  });

  t.test('empty, huge and cut-off datagrams', async (t) => {
    const socket = createDatagramSocket(LOOPBACK);
    const short = createDatagramSocket({ ...LOOPBACK, maxSize: 100 });
    t.teardown(() => (socket.close(), short.close()));
    const from = await client('udp4');
    t.teardown(() => from.close());
    const big = Buffer.alloc(65507, 'x');
    big.write('end', big.length - 3);
    from.send('', socket.address().port, '127.0.0.1');
    t.match(await nextMessage(socket), [Buffer.alloc(0), { size: 0, truncated: false }]);
    from.send(big, socket.address().port, '127.0.0.1');
    const [data, info] = await nextMessage(socket);
    t.ok(data.equals(big));
    t.match(info, { size: big.length, truncated: false });
    t.equal(socket.reply(big, info), undefined);
    t.ok((await nextMessage(from))[0].equals(big));
    t.match(socket.reply(Buffer.alloc(65508), info), { code: 'EMSGSIZE', syscall: 'sendmsg' });

    from.send(big, short.address().port, '127.0.0.1');
    const [cut, cutInfo] = await nextMessage(short);
    t.equal(cut.length, 100);
    t.match(cutInfo, { size: big.length, truncated: true, kind: 'direct' });
    from.send(big.subarray(0, 100), short.address().port, '127.0.0.1');
    t.match(await nextMessage(short), [Buffer.alloc(100, 'x'), { truncated: false }]);
    t.match(short.stats, { direct: 2, truncated: 1 });
  });

  t.test('closing: at once, once, and for good', async (t) => {
    const socket = createDatagramSocket(LOOPBACK);
    const { port } = socket.address();
    const from = await client('udp4');
    t.teardown(() => from.close());
    let seen = 0;
    socket.on('message', () => {
      seen++;
      socket.close();
    });
    for (let i = 0; i < 5; i++) from.send('x', port, '127.0.0.1');
    await once(socket, 'close');
    t.equal(socket.close(), socket);
    await sleep(20);
    t.equal(seen, 1, 'no message after close');
    t.equal(socket.address().port, port);
    t.equal(socket.ref(), socket);
    t.match(socket.stats, { direct: 1, dropped: 0 });
    const destination = { address: '127.0.0.1', port };
    t.match(socket.send('x', { destination }), { code: 'EBADF' });
    t.match(socket.send('x', { destination, source: destination }), { code: 'EBADF' });
    createDatagramSocket({ ...LOOPBACK, port }).close();
  });

  t.test('disposed of, and closed by a signal', async (t) => {
    const socket = createDatagramSocket(LOOPBACK);
    let closes = 0;
    socket.once('close', () => closes++);
    await socket[Symbol.asyncDispose]();
    t.equal(closes, 1, 'when it has closed');
    await socket[Symbol.asyncDispose]();

    const controller = new AbortController();
    const { signal } = controller;
    const stopped = createDatagramSocket({ ...LOOPBACK, signal });
    const other = createDatagramSocket({ ...LOOPBACK, signal });
    await other[Symbol.asyncDispose]();
    t.equal(getEventListeners(signal, 'abort').length, 1, 'nothing is left with the signal');
    const closed = once(stopped, 'close');
    controller.abort();
    await closed;
    t.equal(getEventListeners(signal, 'abort').length, 0);
    await once(createDatagramSocket({ ...LOOPBACK, signal }), 'close');
    t.throws(() => createDatagramSocket({ signal: {} as never }), { code: 'ERR_INVALID_ARG_TYPE' });
  });

  t.test('closing one whose datagram has been announced already', async (t) => {
    const both = [createDatagramSocket(LOOPBACK), createDatagramSocket(LOOPBACK)];
    t.teardown(() => both.map((socket) => socket.close()));
    const from = await client('udp4');
    t.teardown(() => from.close());
    let seen = 0;
    for (const socket of both) {
      socket.on('message', () => {
        seen++;
        for (const other of both) other.close();
      });
      from.send('x', socket.address().port, '127.0.0.1');
    }
    await turn();
    // Meanwhile the thread announces both.
    const until = performance.now() + 50;
    while (performance.now() < until);
    await sleep(20);
    t.equal(seen, 1);
  });

  t.test('pausing leaves datagrams to the kernel', async (t) => {
    const socket = createDatagramSocket(LOOPBACK);
    t.teardown(() => socket.close());
    const from = await client('udp4');
    t.teardown(() => from.close());
    const seen: string[] = [];
    socket.on('message', (data) => {
      seen.push(String(data));
      if (data.length === 1) socket.pause();
    });
    from.send('1', socket.address().port, '127.0.0.1');
    await once(socket, 'message');
    from.send('22', socket.address().port, '127.0.0.1');
    await sleep(50);
    t.same(seen, ['1']);
    socket.resume();
    await once(socket, 'message');
    t.same(seen, ['1', '22']);
    socket.unref().pause();
    from.send('333', socket.address().port, '127.0.0.1');
    await sleep(20);
    const last = once(socket, 'message');
    socket.resume().ref();
    await last;
    t.equal(seen.at(-1), '333');
  });

  t.test('a handler that throws does not cost the next datagram', async (t) => {
    const socket = createDatagramSocket(LOOPBACK);
    t.teardown(() => socket.close());
    const from = await client('udp4');
    t.teardown(() => from.close());
    const uncaught: string[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => uncaught.push(error.message));
    t.teardown(() => {
      process.removeAllListeners('uncaughtException');
      for (const listener of listeners) process.on('uncaughtException', listener);
    });
    const seen: string[] = [];
    socket.pause();
    socket.on('message', (data) => {
      seen.push(String(data));
      throw new Error(`handler of ${String(data)}`);
    });
    for (const text of ['a', 'b', 'c']) from.send(text, socket.address().port, '127.0.0.1');
    await sleep(20);
    socket.resume();
    while (seen.length < 3) await turn();
    await turn();
    t.same(seen, ['a', 'b', 'c']);
    t.same(uncaught, ['handler of a', 'handler of b', 'handler of c']);
  });

  t.test('without the control message: unknown', async (t) => {
    const before = sockets();
    const socket = createDatagramSocket(LOOPBACK);
    t.teardown(() => socket.close());
    const fd = [...sockets()].find((fd) => !before.has(fd));
    tamper(fd!, `s.setsockopt(socket.SOL_IP, 20, 0)`);
    const from = await client('udp4');
    t.teardown(() => from.close());
    for (let i = 0; i < 2; i++) {
      from.send('x', socket.address().port, '127.0.0.1');
      const [, info] = await nextMessage(socket);
      t.match(info, { kind: 'unknown', destination: undefined, local: undefined });
      t.equal((info as DatagramInfo & { kind: 'unknown' }).cause.code, 'ERR_UNKNOWN_DESTINATION');
      t.equal(socket.reply('y', info), undefined, 'the kernel chooses the address of an answer');
      t.equal(String((await nextMessage(from))[0]), 'y');
    }
    t.equal(socket.stats.unknown, 2);
  });

  t.test('an error of the socket is counted and survived', async (t) => {
    const before = sockets();
    // A port of its own choice: one that the kernel chose would be lost by disconnecting.
    const socket = createDatagramSocket({ ...LOOPBACK, port: 15053 });
    t.teardown(() => socket.close());
    const fd = [...sockets()].find((fd) => !before.has(fd));
    const told: unknown[] = [];
    const listen = (message: unknown): void => void told.push(message);
    subscribe('original-dst:error', listen);
    t.teardown(() => unsubscribe('original-dst:error', listen));
    // A connected socket is told of the ICMP error that its datagram brings about.
    tamper(fd!, `s.connect(('127.0.0.1', 9)); s.send(b'x')`);
    while (socket.stats.errors['ECONNREFUSED'] === undefined) await sleep(5);
    t.match(told, [{ socket, error: { code: 'ECONNREFUSED', syscall: 'recvmmsg' } }]);
    tamper(fd!, `libc.connect(s.fileno(), bytes(16), 16)`);
    const from = await client('udp4');
    t.teardown(() => from.close());
    from.send('x', socket.address().port, '127.0.0.1');
    t.equal(String((await nextMessage(socket))[0]), 'x');
    t.same(socket.stats.errors, { ECONNREFUSED: 1 });
  });

  t.test('a closed port behind an answer does no harm', async (t) => {
    const socket = createDatagramSocket(LOOPBACK);
    t.teardown(() => socket.close());
    for (let i = 0; i < 3; i++) {
      t.equal(socket.send('x', { destination: { address: '127.0.0.1', port: 9 } }), undefined);
      await turn();
    }
    t.match(socket.send('x', { destination: { address: '203.0.113.1', port: 9 } }), { code: 'ENETUNREACH' });
    const from = await client('udp4');
    t.teardown(() => from.close());
    from.send('x', socket.address().port, '127.0.0.1');
    await nextMessage(socket);
    t.same(socket.stats.errors, {});
  });

  t.test('ports that cannot be answered, or answered from', async (t) => {
    const socket = createDatagramSocket(LOOPBACK);
    t.teardown(() => socket.close());
    const raw = `
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
s.sendto(struct.pack('!HHHH', 0, ${socket.address().port}, 9, 0) + b'x', ('127.0.0.1', 0))
`;
    const message = nextMessage(socket);
    execFileSync('python3', ['-c', raw]);
    const [, info] = await message;
    t.equal(info.source.port, 0);
    t.match(socket.reply('y', info), { code: 'EINVAL', syscall: 'sendmsg' });
    const destination = { address: '198.51.100.7', port: 0, family: 'IPv4' } as const;
    const source = { ...info.source, port: 9 };
    t.match(socket.reply('y', { ...info, source, kind: 'tproxy', destination }), {
      code: 'EINVAL',
      syscall: 'bind',
      address: '198.51.100.7',
    });
    t.equal(socket.stats.replySockets, 0);
  });

  t.test('sources without end', async (t) => {
    const socket = createDatagramSocket({ receiveBufferSize: 8 << 20 });
    const forger = createDatagramSocket();
    t.teardown(() => (socket.close(), forger.close()));
    const { port } = forger.address();
    const destination = { address: '127.0.0.1', port: socket.address().port };
    const sources = Array.from({ length: 5000 }, (_, i) => `127.1.${i >> 8}.${i & 255}`);
    const seen: string[] = [];
    socket.on('message', (data, { source, kind }) => {
      if (kind === 'direct' && source.port === port && String(data) === source.address) {
        seen.push(source.address);
      }
    });
    for (const [i, address] of sources.entries()) {
      forger.send(address, { destination, source: { address, port } });
      if (i % 100 === 0) await turn();
    }
    while (socket.stats.direct < sources.length) await sleep(5);
    t.same(new Set(seen), new Set(sources));
  });

  t.test('marks and buffers', async (t) => {
    nft(`table inet marks {
      chain output {
        type filter hook output priority 0
        udp dport 7777 meta mark != 7 drop
      }
    }`);
    const plain = createDatagramSocket(LOOPBACK);
    const socket = createDatagramSocket({ ...LOOPBACK, mark: 7, receiveBufferSize: 300_000 });
    t.teardown(() => (plain.close(), socket.close()));
    const destination = { address: '127.0.0.1', port: 7777 };
    t.match(plain.send('x', { destination }), { code: 'EPERM', syscall: 'sendmsg', ...destination });
    t.equal(socket.send('x', { destination }), undefined);
    t.equal(socket.send('x', { destination, source: { address: '127.0.0.3', port: 53 } }), undefined);
    t.match(sh(`ss -uamn sport = ${socket.address().port}`), /rb600000/, 'the kernel doubles it');
  });
});
