// Connections that the program has dialled itself.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createNetServer, Socket } from 'node:net';
import { promisify } from 'node:util';
import t from 'tap';
import { binding, bindingLoaded } from '../../lib/binding.ts';
import {
  connect,
  connectOriginal,
  createRelayServer,
  createServer,
  relay,
  type InterceptedSocket,
  type InterceptServer,
} from '../../lib/index.ts';
import { ownDialRefusal, pathOf } from '../../lib/policy/own-dials.ts';
import {
  accepted,
  call,
  client,
  dialled,
  listening,
  redirectChain,
  rules,
  tproxyChains,
  tproxyRoutes,
} from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace, sh } from '../fixtures/netns.ts';

const run = promisify(execFile);

const FAR = { v4: '198.51.100.10', v6: '2001:db8:2::10' };
const CODE = 'ERR_INTERCEPT_LOOP';

/** Unlike `once`, which an 'error' ends. */
async function gone(socket: Socket): Promise<void> {
  await new Promise((resolve) => socket.once('close', resolve));
}

function dialsOn(transparent: boolean, preserveSource: boolean): InterceptServer {
  return createServer({ transparent, allowHalfOpen: true }, (accepted) => {
    const upstream = connectOriginal(accepted, { preserveSource });
    upstream.on('error', () => {});
    relay(accepted, upstream);
  });
}

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  tproxyRoutes();
  const warnings: Error[] = [];
  process.removeAllListeners('warning'); // the one that prints
  process.on('warning', (warning) => warnings.push(warning));

  t.test('a program that intercepts nothing does without the addon', async (t) => {
    const server = createNetServer((accepted) => accepted.end());
    const port = await listening(t, server);
    await gone(connect({ address: '127.0.0.1', port }).resume());
    t.equal(bindingLoaded(), false);
  });

  for (const family of ['v4', 'v6'] as const) {
    for (const [how, preserveSource] of [
      ['redirect', false],
      ['tproxy', false],
      ['tproxy', true],
    ] as const) {
      const transparent = how === 'tproxy';
      const name = `${family}, ${how}${preserveSource ? ', from the client’s address' : ''}`;
      const chains = (port: number): string => (transparent ? tproxyChains(port) : redirectChain(port));

      t.test(`createServer and connectOriginal: ${name}`, async (t) => {
        const server = dialsOn(transparent, preserveSource);
        rules(t, 'inet', chains(await listening(t, server)));
        t.equal(await call(FAR[family]), 'ECONNRESET');
        t.equal(server.interceptStats[how], 2, 'the client, and the proxy once');
        t.same(server.interceptStats.refused, { [CODE]: 1 });
        t.equal(server.interceptStats.reset, 1);
      });

      t.test(`createServer and relay() to the destination: ${name}`, async (t) => {
        const server = createServer({ transparent, allowHalfOpen: true }, (accepted) => {
          const source = { address: accepted.remoteAddress! };
          if (accepted.originalDst.kind === 'unknown') accepted.destroy();
          else relay(accepted, accepted.originalDst, preserveSource ? { dial: { source, transparent } } : {});
        });
        rules(t, 'inet', chains(await listening(t, server)));
        t.equal(await call(FAR[family]), 'ECONNRESET');
        t.equal(server.interceptStats[how], 2, 'the client, and the proxy once');
        t.same(server.interceptStats.refused, { [CODE]: 1 });
      });

      t.test(`createRelayServer: ${name}`, async (t) => {
        let asked = 0;
        const server = createRelayServer({
          transparent,
          preserveSource,
          decide: () => {
            asked++;
            return { action: 'relay', ttl: 60_000 };
          },
        }).listen();
        await once(server, 'listening');
        t.teardown(() => server.destroy());
        rules(t, 'inet', chains(server.address()!.port));
        t.equal(await call(FAR[family]), 'ECONNRESET', 'by the decision');
        t.equal(await call(FAR[family]), 'ECONNRESET', 'by the lasting verdict');
        t.equal(server.stats.accepted, 4, 'the client and the proxy, each twice');
        t.equal(server.stats.relayed, 2);
        t.same(server.stats.refused, { [CODE]: 2 });
        t.equal(asked, 1, 'nobody decides about a loop');
      });
    }
  }

  t.test('the warning comes once', (t) => {
    t.equal(warnings.length, 1);
    t.equal((warnings[0] as NodeJS.ErrnoException).code, CODE);
    t.match(warnings[0]!.message, /198\.51\.100\.10:80 .* port \d+ .*mark/);
    t.end();
  });

  t.test('diagnostics_channel', async (t) => {
    const { channel } = await import('node:diagnostics_channel');
    const seen: { server: unknown; error: NodeJS.ErrnoException }[] = [];
    const listen = (message: unknown): number => seen.push(message as (typeof seen)[0]);
    channel('original-dst:error').subscribe(listen);
    t.teardown(() => channel('original-dst:error').unsubscribe(listen));
    const server = dialsOn(false, false);
    rules(t, 'inet', redirectChain(await listening(t, server)));
    await call(FAR.v4);
    t.equal(seen.length, 1);
    t.equal(seen[0]!.error.code, CODE);
    t.equal(seen[0]!.server, server);
  });

  t.test('connect(), by address and by host name, for no known client', async (t) => {
    sh(`echo '${FAR.v4} far.test' > /run/hosts && mount --bind /run/hosts /etc/hosts`);
    const server = createServer();
    const ended = once(server, 'connection').then(async () => {
      const upstream = connect({ address: 'far.test', port: 80 }).on('error', () => {});
      await gone(upstream);
    });
    rules(t, 'inet', redirectChain(await listening(t, server)));
    client(t, 80, FAR.v4);
    await ended;
    t.equal(server.interceptStats.redirect, 2);
    t.same(server.interceptStats.refused, { [CODE]: 1 });
  });

  for (const kind of ['createServer', 'createRelayServer'] as const) {
    t.test(
      `out by one listener and in by another, ${kind}, is no loop; once more by the first is`,
      async (t) => {
        const dialsOnTo = (from: Socket, mark: number): void => {
          relay(
            from,
            connectOriginal(from, { mark }).on('error', () => {}),
          );
        };
        const out = createServer({ allowHalfOpen: true }, (from) => dialsOnTo(from, 5));
        const port = await listening(t, out);
        const inbound =
          kind === 'createServer'
            ? createServer({ allowHalfOpen: true }).listen(0)
            : createRelayServer({ decide: () => 'emit' }).listen();
        await once(inbound, 'listening');
        t.teardown(() => inbound.close());
        rules(
          t,
          'inet',
          `chain out { type nat hook output priority -100
           ip daddr 198.51.100.3 tcp dport 80 meta mark != 5 redirect to :${port}
           ip daddr 198.51.100.3 tcp dport 80 meta mark 5 redirect to :${(inbound.address() as { port: number }).port}
         }`,
        );
        const kinds: string[] = [];
        const onPassed = (passed: InterceptedSocket): void => {
          kinds.push(passed.originalDst.kind);
          dialsOnTo(passed, 6); // to the same address, and to the first listener again
        };
        if ('stats' in inbound) inbound.on('connection', onPassed);
        else inbound.on('connection', onPassed);
        t.equal(await call('198.51.100.3'), 'ECONNRESET');
        t.equal(kinds[0], 'redirect', 'a connection of the program, and served');
        const { refused } = 'stats' in inbound ? inbound.stats : inbound.interceptStats;
        const loops = [out.interceptStats.refused, refused].map((counts) => counts[CODE] ?? 0);
        t.same(loops, [1, 0], 'seen where it came through before');
        t.equal(kinds.length, 1, 'and in its first turn');
      },
    );
  }

  t.test('the third listener in a row is the last', async (t) => {
    const server = createServer((accepted) => accepted.destroy());
    const port = await listening(t, server);
    const through = async (path: number): Promise<void> => {
      const socket = (await dialled(t, port, '127.0.0.1')).resume();
      binding().noteDial(process.pid, handleOf(socket).fd, '127.0.0.1', port, path, false);
      await gone(socket);
    };
    await through(11 * 65536 + 12);
    t.same(server.interceptStats.refused, {}, 'two before this one');
    await through((11 * 65536 + 12) * 65536 + 13);
    t.same(server.interceptStats.refused, { [CODE]: 1 }, 'three');
  });

  t.test('what is no loop', async (t) => {
    const server = createServer((accepted) => accepted.end());
    const port = await listening(t, server);
    const other = createServer((accepted) => accepted.end());
    rules(t, 'inet', redirectChain(await listening(t, other)));

    const own = connect({ address: '127.0.0.1', port });
    own.resume();
    await gone(own);
    t.same(server.interceptStats.refused, {}, 'a program’s own client, which no rule has led there');

    const source = { address: '192.0.2.1', port: 47123 };
    const dial = connect({ address: FAR.v4, port: 80, source }).on('error', () => {});
    await gone(dial);
    t.same(other.interceptStats.refused, { [CODE]: 1 });
    const again = await call(FAR.v4, 80, { localAddress: source.address, localPort: source.port });
    t.equal(again, 'closed', 'another client from the port of a dial that is gone');
    t.same(other.interceptStats.refused, { [CODE]: 1 });
  });

  for (const how of ['redirect', 'tproxy'] as const) {
    t.test(`a dial that is gone by the time it is accepted: ${how}`, async (t) => {
      const server = createServer({ transparent: true, unknown: 'reset' });
      const port = await listening(t, server);
      rules(t, 'inet', how === 'tproxy' ? tproxyChains(port) : redirectChain(port));
      const dial = connect({ address: FAR.v4, port: 80, source: { address: '192.0.2.1', port: 47124 } });
      dial.on('error', () => {});
      // Node calls connect(2) in the next tick, and loopback has answered when it returns.
      await new Promise<void>((resolve) => process.nextTick(() => process.nextTick(resolve)));
      handleOf(dial).reset(() => {}); // resetAndDestroy() would wait for 'connect'
      const { interceptStats } = server;
      while (interceptStats.tproxy + interceptStats.unknown === 0)
        await new Promise((resolve) => setImmediate(resolve));
      dial.destroy();
      // Without a connection conntrack cannot be believed, and what is not known is not dialled on.
      t.same(interceptStats.refused, how === 'tproxy' ? { [CODE]: 1 } : {});
    });
  }

  t.test('a remote client from the address and port of a transparent dial for it', async (t) => {
    sh(`
      ip netns add remote
      ip link add e0 type veth peer name e1 netns remote
      ip addr add 10.9.0.1/24 dev e0 && ip link set e0 up
      ip -6 addr add 2001:db8:9::1/64 dev e0 nodad
      ip -n remote link set e1 up
      ip -n remote addr add 10.9.0.2/24 dev e1 && ip -n remote route add default via 10.9.0.1
      ip -n remote -6 addr add 2001:db8:9::2/64 dev e1 nodad
      ip -n remote -6 route add default via 2001:db8:9::1
      sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.e0.rp_filter=0
    `);
    const server = createServer({ transparent: true }, (accepted) => accepted.end());
    const port = await listening(t, server);
    rules(
      t,
      'inet',
      `chain prerouting { type filter hook prerouting priority mangle
         iif e0 meta nfproto ipv4 tcp dport 81 tproxy ip to :${port} meta mark set 1
         iif e0 meta nfproto ipv6 tcp dport 81 tproxy ip6 to :${port} meta mark set 1
       }
       chain unanswered { type filter hook output priority 0
         tcp dport 81 tcp flags syn / syn,ack drop
       }`,
    );
    for (const [from, to] of [
      ['10.9.0.2', FAR.v4],
      ['2001:db8:9::2', FAR.v6],
    ] as const) {
      // Still connecting: as long as that lasts, the client may use the same port, which the proxy cannot know.
      const dial = connect({
        address: to,
        port: 81,
        transparent: true,
        source: { address: from, port: 47125 },
      });
      dial.on('error', () => {});
      await new Promise((resolve) => setImmediate(resolve));
      const script = `require('net').connect({ host: '${to}', port: 81, localPort: 47125 }).resume()`;
      await run('ip', ['netns', 'exec', 'remote', process.execPath, '-e', script]);
      dial.destroy();
    }
    t.equal(server.interceptStats.tproxy, 2);
    t.same(server.interceptStats.refused, {});
  });

  t.test('which listeners a connection has come through', async (t) => {
    const plain = createNetServer();
    const server = createServer();
    const port = await listening(t, server);
    t.equal(pathOf(await accepted(t, server, port, '127.0.0.1')), port);
    t.equal(pathOf(await accepted(t, plain, await listening(t, plain), '127.0.0.1')), 0, 'not known');
    t.equal(pathOf(new Socket()), 0, 'not known');
  });

  t.test('a loop whose destination is unknown', (t) => {
    const cause = new Error();
    t.match(ownDialRefusal(-1, { kind: 'unknown', cause }, 15001)?.message, /its destination/);
    t.equal(ownDialRefusal(-2, { kind: 'unknown', cause }, 15001), undefined);
    t.end();
  });
});

function handleOf(socket: Socket): { fd: number; reset: (done: () => void) => void } {
  return (socket as unknown as { _handle: ReturnType<typeof handleOf> })._handle;
}
