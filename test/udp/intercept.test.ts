// Datagrams behind TPROXY rules.
import t from 'tap';
import { createDatagramSocket } from '../../lib/index.ts';
import { tproxyRoutes } from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace, nft } from '../fixtures/netns.ts';
import { client, connectedClient, nextMessage, redirectRules, tproxyRules } from '../fixtures/udp.ts';

const NETWORKS = [
  { type: 'udp4', family: 'IPv4', address: '198.51.100.7', other: '198.51.100.8', self: '192.0.2.1' },
  { type: 'udp6', family: 'IPv6', address: '2001:db8:2::7', other: '2001:db8:2::8', self: '2001:db8:1::1' },
] as const;
const MODES = [
  { kind: 'tproxy', rules: tproxyRules, transparent: true },
  { kind: 'redirect', rules: redirectRules, transparent: false },
] as const;

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  tproxyRoutes();

  for (const { kind, rules, transparent } of MODES) {
    for (const { type, family, address, other, self } of NETWORKS) {
      for (const listen of ['::', family === 'IPv4' ? '0.0.0.0' : '::']) {
        t.test(`${kind}, ${type} to a socket on ${listen}`, async (t) => {
          const socket = createDatagramSocket({ address: listen, transparent });
          t.teardown(() => socket.close());
          nft(rules(socket.address().port));
          t.teardown(() => nft(`delete table inet udp_${kind}`));
          const from = await client(type);
          t.teardown(() => from.close());

          // Two destinations from one client port.
          for (const [destination, port] of [
            [address, 53],
            [other, 5353],
          ] as const) {
            from.send(`to ${destination}`, port, destination);
            const [data, info] = await nextMessage(socket);
            t.equal(String(data), `to ${destination}`);
            t.match(info, { kind, destination: { address: destination, port, family }, truncated: false });
            t.equal(info.source.address, self);
            t.equal(socket.reply('answer', info), undefined);
            const [answer, rinfo] = await nextMessage(from);
            t.equal(String(answer), 'answer');
            t.match(rinfo, { address: destination, port });
          }

          const connected = await connectedClient(type, address, 53);
          t.teardown(() => connected.close());
          connected.send('hello');
          const [, info] = await nextMessage(socket);
          t.match(info, { kind, destination: { address, port: 53, family } });
          socket.reply('answer', info);
          const [answer] = await nextMessage(connected);
          t.equal(String(answer), 'answer');
        });
      }
    }
  }
});
