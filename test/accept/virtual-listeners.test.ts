// Hand-over to virtual listeners.
import { once } from 'node:events';
import { createServer as createHttpServer, get, type IncomingMessage } from 'node:http';
import { Socket, type Server } from 'node:net';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { createServer, originalDst, VirtualListeners, type ConnectionTarget } from '../../lib/index.ts';
import { client, listening, rules } from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace } from '../fixtures/netns.ts';

t.test('address and port, then wildcards, then the default', (t) => {
  const names = new Map<ConnectionTarget, string>();
  const named = (name: string): ConnectionTarget => {
    const target = (): void => {};
    names.set(target, name);
    return target;
  };
  const listeners = new VirtualListeners(named('default'))
    .add({ address: '192.0.2.1', port: 80 }, named('exact v4'))
    .add({ address: '2001:db8::1', port: 80 }, named('exact v6'))
    .add({ address: '::ffff:192.0.2.2', port: 80 }, named('exact mapped'))
    .add({ address: '2001:DB8:0::9', port: 80 }, named('another spelling'))
    .add({ address: '0:0::0', port: 26 }, named('dual-stack, another spelling'))
    .add({ address: '0.0.0.0', port: 80 }, named('all v4'))
    .add({ port: 80 }, named('all'))
    .add({ address: '::', port: 443 }, named('dual-stack'))
    .add({ address: '0.0.0.0', port: 25 }, named('v4 only'));
  for (const [address, port, name] of [
    ['192.0.2.1', 80, 'exact v4'],
    ['::ffff:192.0.2.1', 80, 'exact v4'],
    ['192.0.2.2', 80, 'exact mapped'],
    ['2001:db8::1', 80, 'exact v6'],
    ['2001:0DB8::1', 80, 'exact v6'],
    ['::ffff:c000:201', 80, 'exact v4'],
    ['2001:db8::9', 80, 'another spelling'],
    ['192.0.2.1', 26, 'dual-stack, another spelling'],
    ['192.0.2.3', 80, 'all v4'],
    ['2001:db8::2', 80, 'all'],
    ['192.0.2.1', 443, 'dual-stack'],
    ['2001:db8::1', 443, 'dual-stack'],
    ['192.0.2.1', 25, 'v4 only'],
    ['2001:db8::1', 25, 'default'],
    ['192.0.2.1', 81, 'default'],
  ] as const) {
    t.equal(names.get(listeners.find({ address, port })), name, `${address} ${port}`);
  }
  t.equal(listeners.delete({ address: '192.0.2.1', port: 80 }), true);
  t.equal(listeners.delete({ address: '192.0.2.1', port: 80 }), false);
  t.equal(names.get(listeners.find({ address: '192.0.2.1', port: 80 })), 'all v4', 'after delete');
  t.end();
});

t.test('argument errors', (t) => {
  const target = (): void => {};
  t.throws(() => new VirtualListeners(undefined as unknown as Server), { code: 'ERR_INVALID_ARG_TYPE' });
  const listeners = new VirtualListeners(target).add({ port: 80 }, target);
  t.throws(() => listeners.add({ address: '::', port: 80 }, target), { code: 'ERR_ADDRESS_TAKEN' });
  t.throws(() => listeners.add({ port: 65536 }, target), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => listeners.add({ address: 'localhost', port: 80 }, target), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => listeners.find({ address: 'localhost', port: 80 }), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => listeners.delete({ address: 7 as never, port: 80 }), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => listeners.add({ address: '0::', port: 80 }, target), { code: 'ERR_ADDRESS_TAKEN' });
  t.throws(() => listeners.add({ port: 81 }, {} as unknown as Server), { code: 'ERR_INVALID_ARG_TYPE' });
  t.end();
});

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  t.test('one server accepts for all, and each gets its own', async (t) => {
    const web = createHttpServer((request, response) => {
      response.end(`web ${JSON.stringify(originalDst(request.socket))}`);
    });
    const says =
      (name: string) =>
      (socket: Socket): void => {
        socket.end(name);
      };
    // This one names the first table's server again: the connection must not go round.
    const second = new VirtualListeners(says('second’s default')).add({ port: 7 }, says('never'));
    const first = new VirtualListeners(says('default'))
      .add({ port: 80 }, web)
      .add({ address: '198.51.100.1', port: 5432 }, says('database'))
      .add({ port: 7 }, (socket) => second.handOn(socket));
    const server = createServer((socket) => first.handOn(socket));
    const port = await listening(t, server);
    rules(
      t,
      'inet',
      `chain out {
        type nat hook output priority -100
        ip daddr 198.51.100.0/24 tcp dport != ${port} redirect to :${port}
        ip6 daddr 2001:db8:2::/64 tcp dport != ${port} redirect to :${port}
      }`,
    );
    for (const host of ['198.51.100.1', '2001:db8:2::1']) {
      const [response] = (await once(get({ host, port: 80, agent: false }), 'response')) as [IncomingMessage];
      const expected = { address: host, port: 80, kind: 'redirect' };
      t.match(JSON.parse((await text(response)).slice(4)), expected, 'through HTTP');
    }
    for (const [host, port, expected] of [
      ['198.51.100.1', 5432, 'database'],
      ['198.51.100.2', 5432, 'default'],
      ['2001:db8:2::1', 5432, 'default'],
      ['198.51.100.1', 7, 'second’s default'],
    ] as const) {
      t.equal(await text(client(t, port, host)), expected, `${host} ${port}`);
    }
    t.equal(await text(client(t, port, '127.0.0.1')), 'default', 'the accepting server’s own address');
    t.equal(server.interceptStats.redirect, 6);

    const unknown = new VirtualListeners((socket) => socket.destroy()).add({ port: 0 }, says('never'));
    const nobody = new Socket();
    unknown.handOn(nobody);
    t.equal(nobody.destroyed, true, 'unknown goes to the default');
  });
});
