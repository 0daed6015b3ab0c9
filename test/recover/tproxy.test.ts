// Connections that a TPROXY rule delivers: the local address is the destination, whatever conntrack thinks.
import { once } from 'node:events';
import { createServer as createNetServer, type Socket } from 'node:net';
import t from 'tap';
import {
  createServer,
  getOriginalDst,
  getTransparent,
  recoverOriginalDst,
  setTransparent,
  type InterceptedSocket,
} from '../../lib/index.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import {
  accepted,
  client,
  connectAndReset,
  dialled,
  flushConntrack,
  listening,
  rules,
  tproxyChains,
  tproxyRoutes,
  TRACKING,
  untrackedTo,
} from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace } from '../fixtures/netns.ts';

const V4 = { kind: 'tproxy', address: '198.51.100.7', port: 80, family: 'IPv4' };
const V6 = { kind: 'tproxy', address: '2001:db8:2::7', port: 80, family: 'IPv6' };
const BOTH = [V4, V6];

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  tproxyRoutes();

  const listeners = [
    { host: '0.0.0.0', answers: [V4] },
    { host: '::', answers: BOTH },
    { host: '::', ipv6Only: true, answers: [V6] },
    { host: '127.0.0.1', to: { v4: '127.0.0.1' }, answers: [V4] },
    { host: '::1', to: { v6: '[::1]' }, answers: [V6] },
  ];
  for (const tracking of ['', TRACKING]) {
    const how = tracking === '' ? 'without conntrack' : 'with conntrack';
    for (const { answers, to, ...listener } of listeners) {
      await t.test(`${how}, to a listener on ${JSON.stringify(listener)}`, async (t) => {
        const server = createServer({ transparent: true });
        const port = await listening(t, server, listener);
        rules(t, 'inet', tproxyChains(port, to) + tracking);
        for (const expected of answers) {
          const socket = await accepted<InterceptedSocket>(t, server, 80, expected.address);
          t.same(socket.originalDst, expected);
          const { kind: _, ...endpoint } = expected;
          t.same(getOriginalDst(socketFd(socket)!), tracking === '' ? null : endpoint);
          t.ok(getTransparent(socketFd(socket)!), 'inherited from the listener');
        }
        t.match(server.interceptStats, { tproxy: answers.length, redirect: 0, direct: 0, unknown: 0 });
      });
    }
  }

  await t.test('to a destination whose port is the listener’s', async (t) => {
    const server = createServer({ transparent: true });
    const port = await listening(t, server, { port: 80 });
    rules(t, 'inet', tproxyChains(port) + TRACKING);
    for (const expected of BOTH) {
      const socket = await accepted<InterceptedSocket>(t, server, 80, expected.address);
      t.same(socket.originalDst, expected);
    }
  });

  await t.test('to an address of this host, at another port than the listener’s', async (t) => {
    const server = createServer({ transparent: true });
    const port = await listening(t, server);
    rules(
      t,
      'inet',
      `chain prerouting {
        type filter hook prerouting priority mangle
        ip daddr 192.0.2.1 tcp dport 8080 tproxy ip to :${port}
      }`,
    );
    const socket = await accepted<InterceptedSocket>(t, server, 8080, '192.0.2.1');
    t.same(socket.originalDst, { kind: 'tproxy', address: '192.0.2.1', port: 8080, family: 'IPv4' });
  });

  await t.test('the transparent listener dialled directly', async (t) => {
    const server = createServer({ transparent: true });
    const port = await listening(t, server);
    rules(t, 'inet', tproxyChains(port) + TRACKING);
    for (const address of ['127.0.0.1', '192.0.2.1', '::1']) {
      const socket = await accepted<InterceptedSocket>(t, server, port, address);
      t.match(socket.originalDst, { kind: 'direct', address, port });
    }
  });

  await t.test('the entry is gone before accept: the local address still tells', async (t) => {
    const server = createServer({ transparent: true });
    const port = await listening(t, server);
    rules(t, 'inet', tproxyChains(port) + TRACKING);
    for (const expected of BOTH) {
      const connection = once(server, 'connection');
      await dialled(t, 80, expected.address);
      flushConntrack();
      const [socket] = (await connection) as [InterceptedSocket];
      t.teardown(() => socket.destroy());
      t.equal(getOriginalDst(socketFd(socket)!), null);
      t.same(socket.originalDst, expected);
    }
  });

  await t.test('kept out of conntrack in both directions', async (t) => {
    const server = createServer({ transparent: true });
    const port = await listening(t, server);
    rules(
      t,
      'inet',
      `${tproxyChains(port)}
      ${TRACKING}
      ${untrackedTo(80)}
      chain raw_replies {
        type filter hook output priority raw
        tcp sport 80 notrack
      }`,
    );
    for (const expected of BOTH) {
      const socket = await accepted<InterceptedSocket>(t, server, 80, expected.address);
      t.equal(getOriginalDst(socketFd(socket)!), null);
      t.same(socket.originalDst, expected);
    }
  });

  await t.test('conntrack has it the wrong way round, and names the client', async (t) => {
    const server = createNetServer();
    const port = await listening(t, server);
    setTransparent(socketFd(server)!);
    rules(t, 'inet', tproxyChains(port) + TRACKING + untrackedTo(80));
    for (const expected of BOTH) {
      const connection = once(server, 'connection');
      const dialler = client(t, 80, expected.address);
      const [socket] = (await connection) as [Socket];
      t.teardown(() => socket.destroy());
      // The server's data is the first packet that conntrack sees.
      socket.write('x');
      await once(dialler, 'data');
      t.match(getOriginalDst(socketFd(socket)!), { port: socket.remotePort }, 'the raw answer is the client');
      t.same(recoverOriginalDst(socket), expected);
    }
  });

  await t.test('the client is gone before accept', async (t) => {
    const server = createServer({ transparent: true }, (socket) => socket.on('error', () => {}));
    const port = await listening(t, server);
    rules(t, 'inet', tproxyChains(port) + TRACKING);
    for (const expected of BOTH) {
      const connection = once(server, 'connection');
      connectAndReset(80, expected.address);
      const [socket] = (await connection) as [InterceptedSocket];
      t.same(socket.originalDst, expected);
    }
  });
});
