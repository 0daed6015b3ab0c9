// Connections in a network namespace where conntrack is not at work: nobody can have redirected them by NAT.
import t from 'tap';
import { createServer, getOriginalDst, type InterceptedSocket } from '../../lib/index.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import { accepted, listening } from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace, sh } from '../fixtures/netns.ts';

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  sh('ip route add local 203.0.113.64/26 dev lo && ip -6 route add local 2001:db8:9::/64 dev lo');

  const v4 = ['127.0.0.1', '127.5.6.7', '192.0.2.1'];
  const v6 = ['::1', '2001:db8:1::1'];
  for (const { dial, ...listener } of [
    { host: '0.0.0.0', dial: v4 },
    { host: '::', dial: [...v4, ...v6] },
    { host: '::', ipv6Only: true, dial: v6 },
    { host: '192.0.2.1', dial: ['192.0.2.1'] },
    { host: '2001:db8:1::1', dial: ['2001:db8:1::1'] },
    { host: '::ffff:127.0.0.1', dial: ['127.0.0.1'] },
  ]) {
    await t.test(`direct to a listener on ${JSON.stringify(listener)}`, async (t) => {
      const server = createServer();
      const port = await listening(t, server, listener);
      for (const address of dial) {
        const socket = await accepted<InterceptedSocket>(t, server, port, address);
        const family = address.includes(':') ? 'IPv6' : 'IPv4';
        t.same(socket.originalDst, { kind: 'direct', address, port, family });
        t.equal(getOriginalDst(socketFd(socket)!), null);
      }
    });
  }

  await t.test('an address that routing alone brings here (AnyIP) is the destination', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    for (const address of ['203.0.113.70', '2001:db8:9::5']) {
      const socket = await accepted<InterceptedSocket>(t, server, port, address);
      t.match(socket.originalDst, { kind: 'tproxy', address, port });
    }
  });
});
