// A relay server from its options to its end: what it refuses, where it listens, what it waits for and how long.
import cluster from 'node:cluster';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import t from 'tap';
import { binding } from '../../lib/binding.ts';
import {
  createRelayServer,
  relay,
  type Relay,
  type RelayServer,
  type RelayServerOptions,
} from '../../lib/index.ts';
import { backlogOf } from '../fixtures/backlog.ts';
import { fileFd } from '../fixtures/descriptors.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { startFarEcho } from '../fixtures/programs/far-echo.ts';
import { until } from '../fixtures/relay-network.ts';
import { closed, readAll, world } from '../fixtures/relay-world.ts';

const decide = (): 'relay' => 'relay';

async function start(options: Partial<RelayServerOptions>): Promise<RelayServer> {
  const server = createRelayServer({ mark: 7, decide, ...options }).listen(15001);
  await once(server, 'listening');
  return server;
}

function dial(address: string): Socket {
  return connect({ port: 7000, host: address, allowHalfOpen: true }).on('error', () => {});
}

async function close(server: RelayServer): Promise<void> {
  server.close();
  await once(server, 'close');
}

await inNamespace(t, import.meta.url, async () => {
  sh(`
    ip netns add far
    ip link add near type veth peer name far netns far
    ip addr add 192.0.2.1/24 dev near
    ip link set near up
    ip -n far addr add 192.0.2.2/24 dev far
    ip -n far link set far up
    ip -n far link set lo up
  `);
  // 192.0.2.9 is nobody's, and its neighbour entry is made up: a blackhole.
  sh('ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev near');
  await startFarEcho(t, 'far', 7000);
  nft(`table inet t {
    chain o {
      type nat hook output priority -100
      meta mark 7 accept
      tcp dport 7000 redirect to :15001
    }
  }`);

  for (const ttl of [0, 60_000]) {
    await t.test(`a dial that nobody answers, ttl ${ttl}`, async (t) => {
      const server = await start({ connectTimeout: 100, decide: () => ({ action: 'relay', ttl }) });
      const begun = once(server, 'relay') as Promise<[Relay]>;
      t.equal((await readAll(dial('192.0.2.9'))).end, 'ECONNRESET');
      const [joined] = await begun;
      const outcome = joined.outcome ?? ((await once(joined, 'close')) as unknown[])[0];
      t.match(outcome, {
        reason: 'error',
        side: 'upstream',
        error: { code: 'ETIMEDOUT', syscall: 'connect', address: '192.0.2.9', port: 7000 },
      });
      t.equal((await readAll(dial('192.0.2.9'))).end, 'ECONNRESET');
      await close(server);
      t.match(server.stats, { undecided: ttl === 0 ? 2 : 1, relayed: 2, failed: 2, open: 0 });
    });
  }

  await t.test('relay(): an upstream that nobody answers for, with a limit and without', async (t) => {
    for (const engine of ['native', 'pipe'] as const) {
      const { left, client } = await world(t);
      const joined = relay(client, connect(7001, '192.0.2.9'), { engine, connectTimeout: 100 });
      t.match(await once(joined, 'close'), [
        { reason: 'error', side: 'upstream', error: { code: 'ETIMEDOUT', syscall: 'connect' } },
      ]);
      await closed(left);
      const none = { idleTimeout: 0, halfCloseTimeout: 0, connectTimeout: 0, deadPeerTimeout: 0 };
      const two = await world(t);
      const patient = relay(two.client, connect(7001, '192.0.2.9'), { engine, ...none });
      t.equal(patient.outcome, undefined);
      patient.destroy();
      const three = await world(t);
      const open = relay(three.client, three.upstream, { engine, ...none });
      three.left.end('through');
      t.equal(String((await readAll(three.right)).data), 'through');
      open.destroy();
    }
  });

  await t.test('close() waits for relays that were decided about here, destroy() ends them', async (t) => {
    const server = await start({});
    const client = dial('192.0.2.2');
    client.write('hello');
    await once(client, 'data');
    // The thread counts what it has sent a moment after the client has it.
    await until(() => server.stats.bytesToClient === 5);
    t.match(server.stats, { open: 1, bytesToUpstream: 5 });
    let over = false;
    const called = new Promise<void>((resolve) => {
      server.close(() => {
        over = true;
        resolve();
      });
    });
    client.write('still');
    await once(client, 'data');
    t.equal(over, false);
    const ended = closed(client.resume());
    client.end();
    await Promise.all([ended, called]);
    t.match(server.stats, { open: 0, bytesToUpstream: 10, bytesToClient: 10 });

    const other = await start({});
    const again = dial('192.0.2.2');
    again.write('hello');
    await once(again, 'data');
    const gone = readAll(again);
    other.destroy();
    await once(other, 'close');
    await gone;
    t.equal(other.stats.open, 0);
  });

  await t.test('a peer that is gone without a word', async (t) => {
    const server = await start({ deadPeerTimeout: 2000 });
    const begun = once(server, 'relay') as Promise<[Relay]>;
    const client = dial('192.0.2.2');
    client.write('hello');
    await once(client, 'data');
    sh("ip netns exec far nft 'table ip t { chain i { type filter hook input priority 0; policy drop; }; }'");
    const [joined] = await begun;
    const [outcome] = (await once(joined, 'close')) as [object];
    t.match(outcome, {
      reason: 'error',
      side: 'upstream',
      error: { code: 'ETIMEDOUT' },
    });
    client.destroy();
    await close(server);
  });

  await t.test('options', async (t) => {
    const call = createRelayServer as (options: object) => RelayServer;
    for (const name of ['source', 'interface', 'freebind', 'allowHalfOpen', 'idle']) {
      t.throws(() => call({ decide, [name]: name === 'source' ? { address: '::1' } : true }), {
        code: name === 'interface' ? 'ERR_INVALID_ARG_TYPE' : 'ERR_INVALID_ARG_VALUE',
      });
    }
    t.throws(() => call({ decide, interface: 'lo' }), {
      code: 'ERR_INVALID_ARG_VALUE',
      message: /"interface"/,
    });
    t.ok(call({ decide, source: undefined }));
    for (const name of [
      'decisionTimeout',
      'connectTimeout',
      'idleTimeout',
      'halfCloseTimeout',
      'deadPeerTimeout',
    ])
      t.throws(() => call({ decide, [name]: -1 }), { code: 'ERR_OUT_OF_RANGE', message: new RegExp(name) });
  });

  await t.test('where it listens, as an object', async (t) => {
    const server = (): RelayServer => createRelayServer({ decide: () => 'reset' });
    t.throws(() => server().listen({ backlog: -1 }), { code: 'ERR_OUT_OF_RANGE' });
    t.throws(() => server().listen({ fd: -1 }), { code: 'ERR_OUT_OF_RANGE' });
    t.throws(() => server().listen({ signal: {} as AbortSignal }), { code: 'ERR_INVALID_ARG_TYPE' });
    t.throws(() => server().listen(null as never), { code: 'ERR_INVALID_ARG_TYPE' });

    const here = server().listen({ port: 0, host: '127.0.0.1', backlog: 10 });
    t.match(here.address(), { address: '127.0.0.1' });
    t.equal(backlogOf(here.address()!.port), 10);
    await once(here, 'listening');
    await close(here);

    // A bound socket that nobody else owns.
    const fd = binding().openDialSocket(4, '127.0.0.1', 0, false, false, null, null, -1, -1) as number;
    const given = server().listen({ fd });
    await once(given, 'listening');
    const client = connect(given.address()!.port, '127.0.0.1');
    t.equal((await readAll(client)).end, 'ECONNRESET');
    await close(given);

    const wrong = server().listen({ fd: fileFd(t, '/dev/null') });
    const [error] = (await once(wrong, 'error').catch((reason: unknown) => [reason])) as [Error];
    t.match(error, { code: 'ENOTSOCK' });

    const stopper = new AbortController();
    const stopped = server().listen({ host: '127.0.0.1', signal: stopper.signal });
    await once(stopped, 'listening');
    const over = once(stopped, 'close');
    stopper.abort();
    await over;
    const never = server().listen({ host: '127.0.0.1', signal: AbortSignal.abort() });
    await once(never, 'close');
    t.equal(never.address(), null);
  });

  await t.test('a cluster does not share its port, and is told so', async (t) => {
    const first = createRelayServer({ decide }).listen(0, '127.0.0.1');
    await once(first, 'listening');
    const { port } = first.address()!;
    const refused = async (): Promise<unknown> => {
      const second = createRelayServer({ decide }).listen(port, '127.0.0.1');
      return ((await once(second, 'error').catch((reason: unknown) => [reason])) as [unknown])[0];
    };
    t.match(await refused(), { code: 'EADDRINUSE', hint: /reusePort: true/ });
    const { isWorker } = cluster;
    Object.assign(cluster, { isWorker: true });
    const error = await refused();
    Object.assign(cluster, { isWorker });
    t.match(error, { code: 'EADDRINUSE', syscall: 'listen', hint: /cluster.*every worker/ });
    await close(first);
  });
});
