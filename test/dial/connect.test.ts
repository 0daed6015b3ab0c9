// connect(): sources, egress policy, arguments, runtimes.
import { once } from 'node:events';
import { BlockList, createServer, Socket } from 'node:net';
import t from 'tap';
import { connect, type ConnectOptions } from '../../lib/index.ts';
import { closed, dialNetwork, failure, leakFree, seenBy, whoami } from '../fixtures/dialling.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

await inNamespace(t, import.meta.url, async () => {
  dialNetwork();

  t.test('source addresses, v4 and v6', async (t) => {
    const v4 = await whoami(t, '127.0.0.1');
    const v6 = await whoami(t, '::1');
    const foreign = { address: '192.0.2.77' };
    const cases: [string, Partial<ConnectOptions>, string][] = [
      ['no source', { address: '127.0.0.1', port: v4.port }, '127.0.0.1'],
      ['127.0.0.6', { address: '127.0.0.1', port: v4.port, source: { address: '127.0.0.6' } }, '127.0.0.6'],
      ['::6', { address: '::1', port: v6.port, source: { address: '::6' } }, '::6'],
      ['AnyIP', { address: '127.0.0.1', port: v4.port, source: { address: '198.51.100.9' } }, '198.51.100.9'],
      [
        'both v4-mapped',
        { address: '::ffff:127.0.0.1', port: v4.port, source: { address: '::ffff:127.0.0.6' } },
        '127.0.0.6',
      ],
      [
        'interface and mark',
        { address: '127.0.0.1', port: v4.port, interface: 'lo', mark: 0x1234 },
        '127.0.0.1',
      ],
    ];
    await leakFree(t, async () => {
      for (const [name, options, expected] of cases) {
        const socket = connect(options as ConnectOptions);
        t.equal(socket.connecting, true, `${name}: connecting at once`);
        const seen = await seenBy(socket);
        t.equal(seen.address, expected, name);
        t.equal(seen.port, socket.localPort, `${name}: port`);
        await closed(socket);
      }
    });

    // A foreign source needs a way back: answers to it are brought to this host by a policy route.
    sh(`ip rule add from all to 192.0.2.77 lookup 77 && ip route add local 192.0.2.77 dev lo table 77`);
    sh(`ip rule add to 10.9.0.1 iif lo lookup local`);
    const transparent = connect({ address: '127.0.0.1', port: v4.port, source: foreign, transparent: true });
    t.equal((await seenBy(transparent)).address, '192.0.2.77', 'transparent');
    await closed(transparent);
    const freebound = await failure(
      connect({ address: '127.0.0.1', port: v4.port, source: foreign, freebind: true }),
    );
    t.match(freebound, { code: 'ENETUNREACH', syscall: 'connect' }, 'freebind binds, but gives no way out');
  });

  t.test('a name is resolved to the family of the source', async (t) => {
    const v4 = await whoami(t, '127.0.0.1');
    const v6 = await whoami(t, '::1');
    await leakFree(t, async () => {
      const socket = connect({ address: 'localhost', port: v4.port, source: { address: '127.0.0.6' } });
      const lookup = once(socket, 'lookup');
      t.equal(socket.connecting, true);
      t.equal((await seenBy(socket)).address, '127.0.0.6');
      t.match(await lookup, [null, '127.0.0.1', 4, 'localhost']);
      await closed(socket);
      const six = connect({ address: 'six.test', port: v6.port, source: { address: '::6' } });
      t.equal((await seenBy(six)).address, '::6');
      await closed(six);
      const any = connect({ address: 'localhost', port: v4.port, mark: 7 });
      any.on('error', () => {});
      const [, address] = (await once(any, 'lookup')) as [null, string];
      t.ok(address === '127.0.0.1' || address === '::1');
      await closed(any);
      const other = await whoami(t, '127.0.0.2');
      const mapped = connect({ address: 'mapped.test', port: other.port, mark: 7 });
      t.equal((await seenBy(mapped)).address, '127.0.0.1');
      await closed(mapped);
      other.server.close();
      const nowhere = connect({ address: 'no-such-host.invalid', port: 80, mark: 1 });
      const nothing = once(nowhere, 'lookup');
      const none = await failure(nowhere);
      t.same(await nothing, [none, undefined, undefined, 'no-such-host.invalid'], 'as of net.connect');
      t.equal(none.syscall, 'getaddrinfo');
    });
  });

  t.test('destroyed during the look-up: nothing is opened', async (t) => {
    await leakFree(t, async () => {
      const socket = connect({ address: 'localhost', port: 80, source: { address: '127.0.0.6' } });
      socket.destroy();
      await once(socket, 'close');
      t.equal(socket.connecting, false);
    });
  });

  t.test('without a source port, one port serves many destinations', async (t) => {
    const listeners = await Promise.all(['127.0.0.1', '127.0.0.2'].map((host) => whoami(t, host)));
    const range = sh('cat /proc/sys/net/ipv4/ip_local_port_range').trim();
    // A listener's own port is none to dial from.
    const within = (first: number): boolean =>
      listeners.some(({ port }) => port >= first && port < first + 20);
    const first = [40_000, 41_000, 42_000].find((each) => !within(each))!;
    sh(`echo ${first} ${first + 19} > /proc/sys/net/ipv4/ip_local_port_range`);
    t.teardown(() => sh(`echo ${range} > /proc/sys/net/ipv4/ip_local_port_range`));
    await leakFree(t, async () => {
      const sockets: Socket[] = [];
      for (let i = 0; i < 20; i++) {
        for (const [j, { port }] of listeners.entries())
          sockets.push(connect({ address: `127.0.0.${j + 1}`, port, source: { address: '127.0.0.6' } }));
      }
      await Promise.all(sockets.map((socket) => seenBy(socket)));
      t.equal(new Set(sockets.map((socket) => socket.localPort)).size, 20, '40 connections, 20 ports');
      await Promise.all(sockets.map((socket) => closed(socket)));
    });
  });

  t.test('a source port: kept towards many destinations, refused or replaced when it is taken', async (t) => {
    const a = await whoami(t, '127.0.0.1');
    const b = await whoami(t, '127.0.0.2');
    const source = { address: '127.0.0.6', port: 33333 };
    await leakFree(t, async () => {
      const first = connect({ address: '127.0.0.1', port: a.port, source });
      t.same(await seenBy(first), source);
      const second = connect({ address: '127.0.0.2', port: b.port, source });
      t.same(await seenBy(second), source, 'the same port to another destination');

      const taken = await failure(connect({ address: '127.0.0.1', port: a.port, source }));
      t.match(taken, { code: 'EADDRNOTAVAIL', syscall: 'connect', address: '127.0.0.1', port: a.port });

      for (const address of ['127.0.0.1', 'localhost']) {
        const socket = connect({ address, port: a.port, source, portFallback: true });
        const seen = await seenBy(socket);
        t.equal(seen.address, '127.0.0.6', 'the fall-back keeps the address');
        t.not(seen.port, 33333);
        socket.write('after');
        t.equal(String((await once(socket, 'data'))[0]), 'after', 'and the connection works');
        await closed(socket);
      }
      const free = connect({
        address: '127.0.0.1',
        port: a.port,
        source: { address: '127.0.0.6', port: 33334 },
        portFallback: true,
      });
      t.equal((await seenBy(free)).port, 33334, 'no fall-back when the port is free');
      await closed(free);
      await closed(second);
      first.resetAndDestroy();
      await once(first, 'close');
    });

    const holder = createServer().listen(33335, '127.0.0.6');
    await once(holder, 'listening');
    t.teardown(() => holder.close());
    const six = await whoami(t, '::1');
    const held = { address: '127.0.0.6', port: 33335 };
    await leakFree(t, async () => {
      const inUse = await failure(connect({ address: '127.0.0.1', port: a.port, source: held }));
      t.match(inUse, {
        code: 'EADDRINUSE',
        syscall: 'bind',
        address: '127.0.0.6',
        port: 33335,
        hint: String,
      });
      const socket = connect({ address: '127.0.0.1', port: a.port, source: held, portFallback: true });
      t.equal((await seenBy(socket)).address, '127.0.0.6', 'a listener’s port');
      await closed(socket);
      const source6 = { address: '::6', port: 33336 };
      const first6 = connect({ address: '::1', port: six.port, source: source6 });
      t.same(await seenBy(first6), source6);
      const second6 = connect({ address: '::1', port: six.port, source: source6, portFallback: true });
      t.not((await seenBy(second6)).port, 33336, 'v6');
      await closed(second6);
      first6.resetAndDestroy();
      await once(first6, 'close');
    });
  });

  t.test('egress policy', async (t) => {
    const { port } = await whoami(t, '127.0.0.1');
    const deny = new BlockList();
    deny.addSubnet('10.9.0.0', 24, 'ipv4');
    deny.addSubnet('fe80::', 10, 'ipv6');
    const allow = new BlockList();
    allow.addSubnet('127.0.0.0', 8, 'ipv4');
    allow.addSubnet('10.0.0.0', 8, 'ipv4');
    const all6 = new BlockList();
    all6.addSubnet('::', 0, 'ipv6');
    const loopback = new BlockList();
    loopback.addSubnet('127.0.0.0', 8, 'ipv4');
    loopback.addAddress('::1', 'ipv6');
    await leakFree(t, async () => {
      for (const address of ['0.0.0.0', '::ffff:0:0', 'zero.test']) {
        const socket = connect({
          address,
          port,
          egress: { allow: loopback },
          source: { address: '10.9.0.1' },
        });
        t.equal((await seenBy(socket)).address, '10.9.0.1', `${address} is this host`);
        t.equal(socket.remoteAddress, '127.0.0.1', 'and dialled as what was allowed');
        await closed(socket);
      }
      const socket = connect({
        address: 'localhost',
        port,
        mark: 1,
        source: { address: '127.0.0.6' },
        egress: { allow, deny },
      });
      t.equal((await seenBy(socket)).address, '127.0.0.6');
      await closed(socket);
      for (const [address, egress, message] of [
        ['10.9.0.99', { deny }, /denies 10\.9\.0\.99:80$/],
        ['::ffff:10.9.0.99', { deny }, /denies 10\.9\.0\.99:80$/],
        ['10.9.0.99', { allow, deny }, /denies/],
        ['203.0.113.1', { allow }, /does not allow 203\.0\.113\.1:80$/],
        ['::1', { allow }, /does not allow \[::1\]:80$/],
        ['fe80::9%v0', { deny }, /denies \[fe80::9%v0\]:80$/],
        ['six.test', { allow }, /does not allow \[::1\]:80$/],
        ['0.0.0.0', { deny: loopback }, /denies 0\.0\.0\.0:80$/],
        ['::', { deny: loopback }, /denies \[::\]:80$/],
        ['zero.test', { deny: loopback }, /denies 0\.0\.0\.0:80$/],
        ['::ffff:7f00:1', { deny: loopback }, /denies 127\.0\.0\.1:80$/],
        ['127.0.0.1', { allow: all6 }, /does not allow 127\.0\.0\.1:80$/],
      ] as const) {
        const error = await failure(connect({ address, port: 80, egress }));
        t.match(error, { code: 'ERR_EGRESS_DENIED', message });
      }
    });
  });

  t.test('argument errors are thrown', (t) => {
    const good = { address: '127.0.0.1', port: 80 };
    const bad: [unknown, string][] = [
      [undefined, 'ERR_INVALID_ARG_TYPE'],
      [{ port: 80 }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, address: '' }, 'ERR_INVALID_ARG_TYPE'],
      [{ address: '127.0.0.1' }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, port: 65536 }, 'ERR_OUT_OF_RANGE'],
      [{ ...good, source: null }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, source: {} }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, source: { address: 'localhost' } }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, source: { address: '127.0.0.6', port: -1 } }, 'ERR_OUT_OF_RANGE'],
      [{ ...good, source: { address: '::1' } }, 'ERR_INVALID_ARG_VALUE'],
      [{ ...good, mark: 2 ** 32 }, 'ERR_OUT_OF_RANGE'],
      [{ ...good, transparent: 1 }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, freebind: 'yes' }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, interface: 3 }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, egress: null }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, egress: { allow: ['127.0.0.1'] } }, 'ERR_INVALID_ARG_TYPE'],
      [{ ...good, timeout: -1 }, 'ERR_OUT_OF_RANGE'],
      [{ ...good, signal: 7 }, 'ERR_INVALID_ARG_TYPE'],
    ];
    for (const [options, code] of bad) {
      t.throws(() => connect(options as ConnectOptions), { code }, JSON.stringify(options));
    }
    t.end();
  });

  t.test('a runtime that would ignore the source is told apart', async (t) => {
    const { versions } = process;
    const { port } = await whoami(t, '127.0.0.1');
    t.teardown(() => Object.defineProperty(process, 'versions', { value: versions }));
    for (const runtime of ['bun', 'deno']) {
      Object.defineProperty(process, 'versions', {
        value: { ...versions, [runtime]: '1.0.0' },
        configurable: true,
      });
      t.throws(() => connect({ address: '127.0.0.1', port, source: { address: '127.0.0.6' } }), {
        code: 'ERR_UNSUPPORTED_RUNTIME',
      });
      t.throws(() => connect({ address: '127.0.0.1', port, mark: 1 }), { code: 'ERR_UNSUPPORTED_RUNTIME' });
      const plain = connect({ address: '127.0.0.1', port });
      t.equal((await seenBy(plain)).address, '127.0.0.1', 'nothing special is asked for');
      await closed(plain);
    }
    Object.defineProperty(process, 'versions', { value: versions, configurable: true });

    // And one that nobody has met yet, whose handles take no fd.
    const internals = Socket.prototype as unknown as { connect: (...args: unknown[]) => Socket };
    const { connect: original } = internals;
    internals.connect = function (this: Socket, ...args: unknown[]) {
      const socket = Reflect.apply(original, this, args) as Socket & { _handle: { open?: unknown } };
      Object.defineProperty(socket._handle, 'open', { value: undefined });
      return socket;
    };
    t.teardown(() => (internals.connect = original));
    await leakFree(t, async () => {
      const error = await failure(connect({ address: '127.0.0.1', port, source: { address: '127.0.0.6' } }));
      t.match(error, { code: 'ERR_UNSUPPORTED_RUNTIME', hint: String });
    });
  });
});
