// createRelayServer(): outcomes, refusals, events, counts.
import { once } from 'node:events';
import { BlockList, connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import { createRelayServer, type RelayServer } from '../../lib/index.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { relayNetwork, start, talk, until } from '../fixtures/relay-network.ts';
import { readAll } from '../fixtures/relay-world.ts';

t.test('arguments', (t) => {
  const call = createRelayServer as (options: unknown) => unknown;
  t.throws(() => call(undefined), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => call({}), { code: 'ERR_INVALID_ARG_TYPE', message: /decide/ });
  const decide = (): 'relay' => 'relay';
  t.throws(() => call({ decide, transparent: 1 }), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => call({ decide, mark: -1 }), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => call({ decide, idleTimeout: 1.5 }), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => call({ decide, halfCloseTimeout: '5' }), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => createRelayServer({ decide }).listen(70000), { code: 'ERR_OUT_OF_RANGE' });
  t.equal(createRelayServer({ decide }).address(), null);
  t.same(createRelayServer({ decide }).revoke().close().stats.accepted, 0, 'not listening: nothing to do');
  t.end();
});

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);

  t.test('reset, emit, and what the policy throws', async (t) => {
    const verdicts: (() => never | 'emit' | 'reset' | { action: 'reset'; ttl: number })[] = [
      () => 'emit',
      () => {
        throw new Error('no idea');
      },
      () => 'nonsense' as 'emit',
      () => undefined as unknown as 'emit',
      () => 'reset',
      () => ({ action: 'reset', ttl: 60_000 }),
    ];
    const server = await start({ decide: async () => verdicts.shift()!() });
    server.once('connection', (socket) => {
      socket.resume();
      socket.end(`yours is ${socket.originalDst.kind}`);
    });
    const errors: string[] = [];
    server.on('error', (error) => errors.push(error.message));
    t.equal((await talk('198.51.100.7', 7000, '')).data, 'yours is redirect');
    for (let i = 0; i < 5; i++) t.equal((await talk('198.51.100.7', 7000, 'x')).end, 'ECONNRESET');
    t.match(errors, ['no idea', /verdict/, /verdict/]);
    t.equal((await talk('198.51.100.7', 7000, 'x')).end, 'ECONNRESET', 'by the thread');
    t.match(server.stats, { undecided: 6, reset: 6 });
    server.close();
    await once(server, 'close');

    const nobody = await start({ decide: () => 'emit' });
    t.equal((await talk('198.51.100.7', 7000, 'x')).end, 'ECONNRESET', 'emitted to nobody');
    nobody.close();
    await once(nobody, 'close');

    const thrower = await start({
      decide: () => {
        throw new Error('at once');
      },
    });
    const thrown = once(thrower, 'error').catch((error: Error) => [error]);
    t.equal((await talk('198.51.100.7', 7000, 'x')).end, 'ECONNRESET');
    t.match(await thrown, [{ message: 'at once' }]);
    thrower.close();
    await once(thrower, 'close');
  });

  t.test('the destination refuses', async (t) => {
    const server = await start({ mark: 7, decide: () => ({ action: 'relay', ttl: 60_000 }) });
    // Nobody listens on 7001 over there: once dialled from TypeScript, once by the thread.
    t.equal((await talk('198.51.100.7', 7001, 'x')).end, 'ECONNRESET');
    t.equal((await talk('198.51.100.7', 7001, 'x')).end, 'ECONNRESET');
    t.match(server.stats, { undecided: 1, relayed: 2, failed: 2, open: 0 });
    server.close();
    await once(server, 'close');
  });

  t.test('egress policy and loop guard hold, and nothing on this host is remembered', async (t) => {
    const deny = new BlockList();
    deny.addSubnet('198.51.100.0', 24);
    const server = await start({
      mark: 7,
      egress: { deny },
      decide: () => ({ action: 'relay', ttl: 60_000 }),
    });
    for (let i = 0; i < 2; i++) t.equal((await talk('198.51.100.7', 7000, 'x')).end, 'ECONNRESET');
    // Who dials the proxy itself.
    for (let i = 0; i < 2; i++) t.equal((await talk('192.0.2.1', 15001, 'x')).end, 'ECONNRESET');
    const local = createServer((socket: Socket) => void socket.resume().end('local'));
    local.listen(7000, '192.0.2.1');
    await once(local, 'listening');
    for (let i = 0; i < 2; i++) t.equal((await talk('192.0.2.1', 7000, 'x')).data, 'local');
    t.match(server.stats, { accepted: 6, undecided: 6, relayed: 2 });
    t.same(server.stats.refused, { ERR_EGRESS_DENIED: 2, ERR_INTERCEPT_LOOP: 2 });
    local.close();
    server.close();
    await once(server, 'close');
  });

  t.test('no mark, and a policy that allows nothing: not dialled', async (t) => {
    const server = await start({ egress: { allow: new BlockList() }, decide: () => 'relay' });
    t.equal((await talk('198.51.100.7', 7000, 'x')).end, 'ECONNRESET');
    server.close();
    await once(server, 'close');
  });

  t.test('idle relays of both kinds', async (t) => {
    const server = await start({
      mark: 7,
      idleTimeout: 100,
      halfCloseTimeout: 100,
      decide: () => ({ action: 'relay', ttl: 60_000 }),
    });
    for (let i = 0; i < 2; i++) {
      const socket = connect({ port: 7000, host: '198.51.100.7' });
      t.equal((await readAll(socket)).end, 'fin');
    }
    await until(() => server.stats.open === 0);
    t.match(server.stats, { undecided: 1, relayed: 2, open: 0 });
    server.close();
    await once(server, 'close');
  });

  t.test('more listeners than the thread takes', async (t) => {
    const servers: RelayServer[] = [];
    const open = async (): Promise<void> => void servers.push(await start({ decide: () => 'reset' }, 0));
    for (let i = 0; i < 256; i++) await open();
    await t.rejects(open(), { code: 'EMFILE' });
    for (const server of servers) server.close();
    await Promise.all(servers.map((server) => once(server, 'close')));
    await open();
    servers.at(-1)!.destroy();
    await once(servers.at(-1)!, 'close');
  });

  t.test('a runtime whose sockets cannot be made of descriptors', async (t) => {
    const server = await start({ decide: () => 'emit' });
    const versions = Object.getOwnPropertyDescriptor(process, 'versions')!;
    Object.defineProperty(process, 'versions', {
      ...versions,
      value: { ...process.versions, deno: '2.0.0' },
    });
    const failed = once(server, 'error').catch((error: unknown) => [error]);
    t.equal((await talk('198.51.100.7', 7000, 'x')).end, 'ECONNRESET');
    t.match(await failed, [{ code: 'ERR_UNSUPPORTED_RUNTIME', hint: /answer 'relay' or 'reset'/ }]);
    Object.defineProperty(process, 'versions', versions);
    server.close();
    await once(server, 'close');
  });

  t.test('TPROXY: the local address is the destination, also for the thread', async (t) => {
    sh(`
      ip rule add fwmark 1 lookup 100
      ip route add local default dev lo table 100
    `);
    nft(`table ip m {
      chain out {
        type route hook output priority -150
        meta mark 7 accept
        ip daddr 198.51.100.7 tcp dport 7002 meta mark set 1
      }
      chain pre {
        type filter hook prerouting priority -150
        meta mark 1 tcp dport 7002 tproxy to :15009
      }
    }`);
    const kinds: string[] = [];
    const server = await start(
      {
        mark: 7,
        transparent: true,
        decide: (destination) => {
          kinds.push(destination.kind);
          return { action: 'relay', ttl: 60_000 };
        },
      },
      15009,
      '0.0.0.0',
    );
    for (let i = 0; i < 3; i++) t.equal((await talk('198.51.100.7', 7002, 'x')).data, 'x');
    t.same(kinds, ['tproxy']);
    t.match(server.stats, { tproxy: 3, relayed: 3, undecided: 1 });
    server.destroy();
    await once(server, 'close');
  });
});
