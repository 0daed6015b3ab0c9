// Connections that conntrack knows: redirected, rewritten, direct, forgotten, taken for their reverse.
import { once } from 'node:events';
import { createServer as createNetServer, type Socket } from 'node:net';
import t from 'tap';
import { createServer, getOriginalDst, recoverOriginalDst, type InterceptedSocket } from '../../lib/index.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import {
  accepted,
  beliefsExpired,
  client,
  connectAndReset,
  dialled,
  flushConntrack,
  listening,
  redirectChain,
  rules,
  TRACKING,
  untrackedTo,
  ZONED,
} from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace, sh } from '../fixtures/netns.ts';

const V4 = { kind: 'redirect', address: '198.51.100.7', port: 80, family: 'IPv4' };
const V6 = { kind: 'redirect', address: '2001:db8:2::7', port: 80, family: 'IPv6' };

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  const listeners = [
    { host: '0.0.0.0', answers: [V4] },
    { host: '127.0.0.1', answers: [V4] },
    { host: '::', answers: [V4, V6] },
    { host: '::ffff:127.0.0.1', answers: [V4] },
    { host: '::', ipv6Only: true, answers: [V6] },
    { host: '::1', answers: [V6] },
  ];
  for (const { answers, ...listener } of listeners) {
    await t.test(`redirected to a listener on ${JSON.stringify(listener)}`, async (t) => {
      const server = createServer();
      rules(t, 'inet', redirectChain(await listening(t, server, listener)));
      const raw: (() => void)[] = [];
      for (const expected of answers) {
        const socket = await accepted<InterceptedSocket>(t, server, 80, expected.address);
        t.same(socket.originalDst, expected);
        const { kind: _, ...endpoint } = expected;
        raw.push(
          () => void t.same(getOriginalDst(socketFd(socket)!), endpoint, 'the raw answer is the same'),
        );
      }
      // Which level is asked first depends on the one before.
      for (const each of raw) for (const ask of [...raw, each, each]) ask();
      t.match(server.interceptStats, { redirect: answers.length, direct: 0, unknown: 0 });
    });
  }

  await t.test('rewritten by DNAT to another host’s address and port', async (t) => {
    const server = createServer();
    const port = await listening(t, server, { host: '0.0.0.0' });
    rules(
      t,
      'ip',
      `chain output {
        type nat hook output priority -100
        ip daddr 203.0.113.9 tcp dport 443 dnat to 127.0.0.3:${port}
      }`,
    );
    const socket = await accepted<InterceptedSocket>(t, server, 443, '203.0.113.9');
    t.same(socket.originalDst, { kind: 'redirect', address: '203.0.113.9', port: 443, family: 'IPv4' });
  });

  await t.test('redirected, but dialled with the address that stands for IPv6', async (t) => {
    // The raw call asks SOL_IP first and checks this one answer, which could be a stranger's on an IPv6 socket.
    const server = createServer();
    const port = await listening(t, server);
    rules(
      t,
      'ip',
      `chain output {
        type nat hook output priority -100
        ip daddr 127.0.0.6 tcp dport 80 redirect to :${port}
      }`,
    );
    const socket = await accepted<InterceptedSocket>(t, server, 80, '127.0.0.6');
    t.same(socket.originalDst, { kind: 'redirect', address: '127.0.0.6', port: 80, family: 'IPv4' });
    t.same(getOriginalDst(socketFd(socket)!), { address: '127.0.0.6', port: 80, family: 'IPv4' });
  });

  await t.test('an IPv6 connection is not answered with an IPv4 stranger’s entry', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    rules(t, 'inet', redirectChain(port));
    const stranger = await accepted(t, server, port, '127.0.0.6', { localAddress: '127.0.0.6' });
    const socket = await accepted<InterceptedSocket>(t, server, 80, V6.address, {
      localPort: stranger.remotePort,
    });
    t.equal(socket.remotePort, stranger.remotePort, 'the same two ports');
    t.same(socket.originalDst, V6);
    const { kind: _, ...endpoint } = V6;
    for (let i = 0; i < 2; i++) {
      t.same(getOriginalDst(socketFd(socket)!), endpoint, 'after another of IPv6, or the first');
      t.match(getOriginalDst(socketFd(stranger)!), { family: 'IPv4' });
      t.same(getOriginalDst(socketFd(socket)!), endpoint, 'after one of IPv4');
    }
  });

  await t.test('direct, with conntrack at work', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    rules(t, 'inet', redirectChain(port));
    for (const [address, family] of [
      ['127.0.0.1', 'IPv4'],
      ['127.5.6.7', 'IPv4'],
      ['192.0.2.1', 'IPv4'],
      ['::1', 'IPv6'],
      ['2001:db8:1::1', 'IPv6'],
    ] as const) {
      const socket = await accepted<InterceptedSocket>(t, server, port, address);
      t.same(socket.originalDst, { kind: 'direct', address, port, family });
      t.same(
        getOriginalDst(socketFd(socket)!),
        { address, port, family },
        'the kernel names the socket itself',
      );
    }
    t.match(server.interceptStats, { direct: 5, redirect: 0 });
  });

  await t.test('direct to a listener on one address', async (t) => {
    for (const host of ['127.0.0.1', '::1', '::ffff:127.0.0.1']) {
      const server = createServer();
      const port = await listening(t, server, { host });
      rules(t, 'inet', redirectChain(port));
      const address = host === '::ffff:127.0.0.1' ? '127.0.0.1' : host;
      const socket = await accepted<InterceptedSocket>(t, server, port, address);
      t.match(socket.originalDst, { kind: 'direct', address, port });
    }
  });

  await t.test('direct to an address of an interface that is down', async (t) => {
    sh('ip link add d0 type veth peer name d1 && ip addr add 192.0.2.77/32 dev d0');
    const server = createServer();
    const port = await listening(t, server);
    rules(t, 'inet', redirectChain(port));
    const socket = await accepted<InterceptedSocket>(t, server, port, '192.0.2.77');
    t.match(socket.originalDst, { kind: 'direct', address: '192.0.2.77', port });
  });

  await t.test('an address that routing alone brings here (AnyIP) is the destination', async (t) => {
    sh('ip route add local 203.0.113.64/26 dev lo && ip -6 route add local 2001:db8:9::/64 dev lo');
    const server = createServer();
    const port = await listening(t, server);
    rules(t, 'inet', redirectChain(port));
    for (const address of ['203.0.113.70', '2001:db8:9::5']) {
      const socket = await accepted<InterceptedSocket>(t, server, port, address);
      t.match(socket.originalDst, { kind: 'tproxy', address, port });
    }
  });

  await t.test('the entry is gone before accept', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    rules(t, 'inet', redirectChain(port));
    for (const { address } of [V4, V6]) {
      const connection = once(server, 'connection');
      await dialled(t, 80, address);
      flushConntrack();
      const [socket] = (await connection) as [InterceptedSocket];
      t.teardown(() => socket.destroy());
      // The local address is this listener's own: to name it as the destination would be wrong.
      t.match(socket.originalDst, {
        kind: 'unknown',
        cause: { code: 'ENOENT', syscall: 'getsockopt', hint: /flushed/ },
      });
      t.equal(getOriginalDst(socketFd(socket)!), null);
    }
    t.match(server.interceptStats, { unknown: 2, errors: { ENOENT: 2 } });
  });

  await t.test('the entry goes away after accept: the answer was kept', async (t) => {
    const server = createServer();
    rules(t, 'inet', redirectChain(await listening(t, server)));
    for (const expected of [V4, V6]) {
      const socket = await accepted<InterceptedSocket>(t, server, 80, expected.address);
      flushConntrack();
      t.equal(getOriginalDst(socketFd(socket)!), null);
      t.same(socket.originalDst, expected);
      t.same(recoverOriginalDst(socket), expected);
    }
  });

  await t.test('connections in a conntrack zone are out of SO_ORIGINAL_DST’s sight: unknown', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    rules(t, 'inet', ZONED + redirectChain(port));
    beliefsExpired();
    flushConntrack();
    for (const { address } of [V4, V6]) {
      const socket = await accepted<InterceptedSocket>(t, server, 80, address);
      t.match(socket.originalDst, { kind: 'unknown', cause: { code: 'ENOENT' } });
    }
  });

  await t.test('conntrack has it the wrong way round', async (t) => {
    const server = createNetServer();
    const port = await listening(t, server);
    // The client's packets are not tracked, the server's are: its data makes an entry from here to the client.
    rules(t, 'inet', untrackedTo(port) + TRACKING);
    for (const address of ['192.0.2.1', '2001:db8:1::1']) {
      const connection = once(server, 'connection');
      const dialler = client(t, port, address);
      const [socket] = (await connection) as [Socket];
      t.teardown(() => socket.destroy());
      socket.write('x');
      await once(dialler, 'data');
      t.same(
        getOriginalDst(socketFd(socket)!),
        {
          address: socket.remoteAddress!.replace('::ffff:', ''),
          port: socket.remotePort,
          family: familyOf(address),
        },
        'the kernel names the client',
      );
      t.match(recoverOriginalDst(socket), { kind: 'unknown', cause: { code: 'ENOENT' } });
    }
  });

  await t.test('the client is gone before accept', async (t) => {
    const server = createServer((socket) => socket.on('error', () => {}));
    const port = await listening(t, server);
    rules(t, 'inet', redirectChain(port));
    for (const { address } of [V4, V6]) {
      const connection = once(server, 'connection');
      connectAndReset(80, address);
      const [socket] = (await connection) as [InterceptedSocket];
      // The entry is this connection's, but nobody could tell it from the next one's from the same port.
      t.match(socket.originalDst, {
        kind: 'unknown',
        cause: { code: 'ENOTCONN', syscall: 'getpeername', hint: /has been reset/ },
      });
      t.equal(socket.remoteAddress, undefined, 'getpeername has nothing any more');
    }
    t.match(server.interceptStats, { redirect: 0, unknown: 2, errors: { ENOTCONN: 2 } });
  });

  await t.test('a transparent listener that is reached by REDIRECT', async (t) => {
    const server = createServer({ transparent: true });
    const port = await listening(t, server);
    rules(t, 'inet', redirectChain(port));
    for (const expected of [V4, V6]) {
      const socket = await accepted<InterceptedSocket>(t, server, 80, expected.address);
      t.same(socket.originalDst, expected);
    }
  });
});

function familyOf(address: string): 'IPv4' | 'IPv6' {
  return address.includes(':') ? 'IPv6' : 'IPv4';
}
