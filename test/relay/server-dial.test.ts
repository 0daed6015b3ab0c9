// What createRelayServer's thread dials for TypeScript: from where, and what is told when that fails.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { BlockList, createServer as createNetServer } from 'node:net';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { on, REDIRECT_PORT, TPROXY_PORT } from '../../lib/demo/stage.ts';
import {
  connect as dialFrom,
  createRelayServer,
  type Endpoint,
  type OriginalDst,
  type Relay,
  type RelayOutcome,
  type RelayServer,
  type RelayServerOptions,
} from '../../lib/index.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { exchange, startStage } from '../fixtures/stage.ts';

const run = promisify(execFile);

interface Seen {
  relay: Relay;
  destination: OriginalDst;
  client: Endpoint;
}

async function start(
  t: Test,
  port: number,
  options: Partial<RelayServerOptions>,
): Promise<{ server: RelayServer; seen: Seen[]; next: () => Promise<Seen> }> {
  const server = createRelayServer({ decide: () => 'relay', ...options });
  const seen: Seen[] = [];
  server.on('relay', (relay, destination, client) => seen.push({ relay, destination, client }));
  server.listen(port);
  await once(server, 'listening');
  t.teardown(() => server.destroy());
  const next = async (): Promise<Seen> => {
    if (seen.length === 0) await once(server, 'relay');
    return seen.shift()!;
  };
  return { server, seen, next };
}

async function outcomeOf({ relay }: Seen): Promise<RelayOutcome> {
  if (!relay.outcome) await once(relay, 'close');
  return relay.outcome!;
}

/** Dials from the client's host, until its connection has ended. */
async function dial(host: string, port: number): Promise<void> {
  const script = `require('node:net').connect(${port}, '${host}').on('error', () => {}).resume()`;
  await run(...on('client', [process.execPath, '-e', script]));
}

await inNamespace(t, import.meta.url, async () => {
  await startStage(t);

  t.test('REDIRECT: who the client is, what was carried, nothing left', async (t) => {
    const before = openSockets();
    const asked: [OriginalDst, Endpoint][] = [];
    const { server, next } = await start(t, REDIRECT_PORT, {
      decide: (destination, client) => {
        asked.push([destination, client]);
        return 'relay';
      },
    });
    for (const [address, at, from, client] of [
      ['198.51.100.30', '198.51.100.30:9000', '198.51.100.1', '192.0.2.2'],
      ['2001:db8:a::30', '[2001:db8:a::30]:9000', '2001:db8:a::1', '2001:db8::2'],
    ] as const) {
      const { sha256, received } = await exchange(address, 9000, 40001, 50_000);
      t.same(JSON.parse(received), { server: at, client: from, sha256 });
      const seen = await next();
      t.same(await outcomeOf(seen), { reason: 'end' });
      t.equal(seen.relay.bytesToUpstream, 50_000);
      t.equal(seen.relay.bytesToClient, Buffer.byteLength(received));
      const family = client.includes(':') ? 'IPv6' : 'IPv4';
      t.same(seen.client, { address: client, port: 40001, family });
      t.same(seen.destination, { kind: 'redirect', address, port: 9000, family });
      t.same(asked.shift(), [seen.destination, seen.client]);
    }
    server.close();
    await once(server, 'close');
    t.same(await socketsLeft(before), []);
  });

  t.test('TPROXY: from the client’s address, decided each time and by a lasting verdict', async (t) => {
    for (const [preserveSource, port] of [
      [true, 40110],
      ['port', 40120],
    ] as const) {
      let asked = 0;
      const { server } = await start(t, TPROXY_PORT, {
        transparent: true,
        preserveSource,
        decide: () => {
          asked++;
          return { action: 'relay', ttl: 60_000 };
        },
      });
      for (const round of [0, 1]) {
        for (const [address, at, from] of [
          ['203.0.113.30', '203.0.113.30:9000', '192.0.2.2'],
          ['2001:db8:b::30', '[2001:db8:b::30]:9000', '2001:db8::2'],
        ] as const) {
          const { sha256, received } = await exchange(address, 9000, port + round, 50_000);
          t.same(JSON.parse(received), { server: at, client: from, sha256 }, `${preserveSource}: ${address}`);
        }
      }
      t.equal(asked, 2, 'the second round was the thread’s own');
      t.match(server.stats, { undecided: 2, relayed: 4, failed: 0 });
      server.destroy();
      await once(server, 'close');
    }
  });

  t.test('the client’s port is taken: an error, or another port', async (t) => {
    // By a connection to the same destination (connect(2) refuses), and by a listener (bind(2) refuses).
    const taken = dialFrom({
      address: '203.0.113.30',
      port: 9000,
      source: { address: '192.0.2.2', port: 40200 },
      transparent: true,
    });
    await once(taken, 'connect');
    const listener = createNetServer().listen(40201);
    await once(listener, 'listening');
    t.teardown(() => {
      taken.destroy();
      listener.close();
    });
    const preserve = { transparent: true, preserveSource: 'port' } as const;

    const { server, next } = await start(t, TPROXY_PORT, preserve);
    const refused = [
      [40200, { code: 'EADDRNOTAVAIL', syscall: 'connect', address: '203.0.113.30', port: 9000 }],
      [40201, { code: 'EADDRINUSE', syscall: 'bind', address: '192.0.2.2', port: 40201 }],
    ] as const;
    for (const [port, error] of refused) {
      await t.rejects(exchange('203.0.113.30', 9000, port, 10));
      t.match(await outcomeOf(await next()), { reason: 'error', side: 'upstream', error });
    }
    server.destroy();
    await once(server, 'close');

    for (const ttl of [0, 60_000]) {
      const again = await start(t, TPROXY_PORT, {
        ...preserve,
        portFallback: true,
        decide: () => ({ action: 'relay', ttl }),
      });
      for (const [port] of refused) {
        const { received } = await exchange('203.0.113.30', 9000, port, 10);
        t.match(JSON.parse(received), { client: '192.0.2.2' }, `${port}, ttl ${ttl}`);
      }
      t.match(again.server.stats, { undecided: ttl === 0 ? 2 : 1, relayed: 2, failed: 0 });
      again.server.destroy();
      await once(again.server, 'close');
    }
  });

  t.test('what the network refuses, and what the program does', async (t) => {
    const before = openSockets();
    const deny = new BlockList();
    deny.addAddress('198.51.100.20');
    const { server, next } = await start(t, REDIRECT_PORT, { egress: { deny }, portFallback: true });
    const cases = [
      ['198.51.100.30', 9999, { code: 'ECONNREFUSED', errno: -111, syscall: 'connect' }],
      ['2001:db8:a::30', 9999, { code: 'ECONNREFUSED', errno: -111, syscall: 'connect' }],
      ['198.51.100.20', 443, { code: 'ERR_EGRESS_DENIED' }],
      ['192.0.2.1', REDIRECT_PORT, { code: 'ERR_INTERCEPT_LOOP' }],
      ['2001:db8::1', REDIRECT_PORT, { code: 'ERR_INTERCEPT_LOOP' }],
    ] as const;
    for (const [address, port, error] of cases) {
      await dial(address, port);
      const seen = await next();
      const outcome = await outcomeOf(seen);
      t.match(outcome, { reason: 'error', side: 'upstream', error }, address);
      if ('errno' in error) t.match(outcome, { error: { address, port } });
      t.match(seen, { destination: { address, port }, relay: { bytesToUpstream: 0, bytesToClient: 0 } });
      seen.relay.destroy();
      t.equal(seen.relay.outcome, outcome, 'it has ended');
    }
    t.same(server.stats.refused, { ERR_EGRESS_DENIED: 1, ERR_INTERCEPT_LOOP: 2 });
    server.close();
    await once(server, 'close');
    t.same(await socketsLeft(before), []);
  });

  t.test('no route: refused by connect(2) itself', async (t) => {
    sh('ip route add unreachable 198.51.100.10/32');
    t.teardown(() => sh('ip route del unreachable 198.51.100.10/32'));
    const { server, next } = await start(t, REDIRECT_PORT, {});
    await dial('198.51.100.10', 80);
    const { reason, error } = (await outcomeOf(await next())) as RelayOutcome & { reason: 'error' };
    t.match(
      { reason, error },
      { reason: 'error', error: { syscall: 'connect', address: '198.51.100.10', port: 80 } },
    );
    t.equal(error.code, 'EHOSTUNREACH');
    server.destroy();
    await once(server, 'close');
  });

  t.test('destroyed, and let go of, while it runs', async (t) => {
    const { server, next } = await start(t, REDIRECT_PORT, {});
    const script = `require('node:net').connect(9000, '198.51.100.30').on('error', () => {}).resume()`;
    const [command, args] = on('client', [process.execPath, '-e', script]);
    const client = once(execFile(command, args), 'exit');
    const seen = await next();
    seen.relay.unref().ref().destroy();
    t.same(await outcomeOf(seen), { reason: 'aborted' });
    await client;
    server.close();
    await once(server, 'close');
  });

  t.test('unknown is not dialled; a promise may decide', async (t) => {
    nft(`table inet raw {
      chain p {
        type filter hook prerouting priority -300
        ct zone set 7
      }
      chain o {
        type filter hook output priority -300
        ct zone set 7
      }
    }`);
    t.teardown(() => sh('nft delete table inet raw'));
    // In a zone of its own a redirected connection cannot be found by SO_ORIGINAL_DST.
    const { server, next } = await start(t, REDIRECT_PORT, { decide: async () => Promise.resolve('relay') });
    await dial('198.51.100.30', 9000);
    const seen = await next();
    t.equal(seen.destination.kind, 'unknown');
    t.match(await outcomeOf(seen), {
      reason: 'error',
      error: { code: 'ERR_UNKNOWN_DESTINATION', cause: Error },
    });
    t.same(server.stats.refused, { ERR_UNKNOWN_DESTINATION: 1 });
    server.close();
    await once(server, 'close');
  });
});
