// createRelayServer(): verdicts, events, counts.
import { once } from 'node:events';
import { BlockList, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import {
  createRelayServer,
  type OriginalDst,
  type RelayServer,
  type RelayServerOptions,
} from '../../lib/index.ts';
import { startFarEcho } from '../fixtures/programs/far-echo.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { closed, readAll } from '../fixtures/relay-world.ts';

async function start(options: RelayServerOptions, port = 15001, host?: string): Promise<RelayServer> {
  const server = createRelayServer(options).listen(port, host);
  await once(server, 'listening');
  return server;
}

/** Says `words` to an address, ends, and returns what came back and how it ended. */
async function talk(address: string, port: number, words: string): Promise<{ data: string; end: string }> {
  const socket = connect({ port, host: address, allowHalfOpen: true });
  socket.on('error', () => {});
  socket.end(words);
  const { data, end } = await readAll(socket);
  return { data: String(data), end };
}

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 500 && !condition(); i++) await sleep(10);
}

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
  // The destination's host is a namespace of its own: it must not be this host's, or no verdict would last.
  sh(`
    ip netns add far
    ip link add near type veth peer name far netns far
    ip addr add 192.0.2.1/24 dev near
    ip -6 addr add 2001:db8::1/64 dev near nodad
    ip link set near up
    ip -n far addr add 192.0.2.2/24 dev far
    ip -n far -6 addr add 2001:db8::2/64 dev far nodad
    ip -n far addr add 198.51.100.7/32 dev far
    ip -n far link set far up
    ip -n far link set lo up
    ip route add 198.51.100.0/24 via 192.0.2.2
  `);
  await startFarEcho(t, 'far', 7000, 7002);
  // The proxy's own dials carry the mark 7.
  nft(`table inet t {
    chain o {
      type nat hook output priority -100
      meta mark 7 accept
      tcp dport { 7000, 7001 } redirect to :15001
    }
  }`);

  t.test('decided in TypeScript every time', async (t) => {
    const asked: OriginalDst[] = [];
    const server = await start({
      mark: 7,
      decide: (destination) => {
        asked.push(destination);
        return 'relay';
      },
    });
    const relays: string[] = [];
    server.on('relay', (joined, destination) => {
      joined.on('close', ({ reason }) =>
        relays.push(`${reason} ${destination.kind} ${joined.bytesToUpstream}`),
      );
    });
    t.match(server.address(), { port: 15001 });
    for (const words of ['one', 'two two']) {
      t.same(await talk('198.51.100.7', 7000, words), { data: words, end: 'fin' });
    }
    t.match(asked, [{ kind: 'redirect', address: '198.51.100.7', port: 7000 }, { kind: 'redirect' }]);
    await until(() => relays.length === 2);
    t.same(relays, ['end redirect 3', 'end redirect 7']);
    t.match(server.stats, { accepted: 2, redirect: 2, relayed: 2, undecided: 2, open: 0 });
    t.throws(() => server.listen(0), { code: 'ERR_SERVER_ALREADY_LISTEN' });
    server.close();
    await once(server, 'close');
    t.equal(server.address(), null);
    server.close();
  });

  t.test(
    'a lasting verdict: the thread goes on by itself, for that destination, for that time',
    async (t) => {
      const asked: string[] = [];
      const server = await start({
        mark: 7,
        decide: (destination) => {
          asked.push(
            destination.kind === 'unknown' ? 'unknown' : `${destination.address} ${destination.port}`,
          );
          return { action: 'relay', ttl: 60_000 };
        },
      });
      const large = 'x'.repeat(500_000);
      for (const words of ['first', 'second', large]) {
        t.same(await talk('198.51.100.7', 7000, words), { data: words, end: 'fin' });
      }
      t.same(asked, ['198.51.100.7 7000']);
      t.same(await talk('192.0.2.2', 7000, 'other'), { data: 'other', end: 'fin' });
      t.same(await talk('2001:db8::2', 7000, 'six'), { data: 'six', end: 'fin' });
      t.same(await talk('2001:db8::2', 7000, 'six again'), { data: 'six again', end: 'fin' });
      t.same(asked, ['198.51.100.7 7000', '192.0.2.2 7000', '2001:db8::2 7000']);
      await until(() => server.stats.open === 0);
      const size = `firstsecond${large}othersixsix again`.length;
      t.same(server.stats, {
        accepted: 6,
        redirect: 6,
        tproxy: 0,
        direct: 0,
        unknown: 0,
        errors: {},
        gone: 0,
        relayed: 6,
        reset: 0,
        failed: 0,
        undecided: 3,
        open: 0,
        bytesToUpstream: size,
        bytesToClient: size,
        refused: {},
      });

      server.revoke({ address: '198.51.100.7', port: 7000 });
      t.throws(() => server.revoke({ address: 'nowhere', port: 1 }), { code: 'ERR_INVALID_ARG_TYPE' });
      t.equal((await talk('198.51.100.7', 7000, 'y')).data, 'y');
      t.equal((await talk('192.0.2.2', 7000, 'y')).data, 'y');
      t.same(asked.slice(3), ['198.51.100.7 7000'], 'asked again about that one');
      server.revoke();
      t.equal((await talk('192.0.2.2', 7000, 'z')).data, 'z');
      t.same(asked.slice(4), ['192.0.2.2 7000']);

      // Open by the thread itself: close() waits, destroy() does not.
      const open = connect({ port: 7000, host: '192.0.2.2' });
      open.on('error', () => {});
      open.write('still here');
      await once(open, 'data');
      t.equal(server.stats.open, 1);
      server.close();
      t.equal(await Promise.race([once(server, 'close').then(() => 'closed'), sleep(100, 'waits')]), 'waits');
      const gone = closed(open);
      server.destroy();
      await Promise.all([once(server, 'close'), gone]);
      t.equal(server.stats.open, 0);
      server.destroy();
    },
  );

  t.test('what was promised before revoke() does not last', async (t) => {
    const answers: (() => void)[] = [];
    const server = await start({
      mark: 7,
      decide: async () => {
        await new Promise<void>((resolve) => answers.push(resolve));
        return { action: 'relay', ttl: 60_000 };
      },
    });
    const answer = async (count: number): Promise<void> => {
      await until(() => answers.length === count);
      answers[count - 1]!();
    };
    const first = talk('198.51.100.7', 7000, 'a');
    await until(() => answers.length === 1);
    server.revoke({ address: '198.51.100.7', port: 7000 });
    await answer(1);
    t.equal((await first).data, 'a');
    const second = talk('198.51.100.7', 7000, 'b');
    await until(() => answers.length === 2);
    server.revoke();
    await answer(2);
    t.equal((await second).data, 'b');
    const third = talk('198.51.100.7', 7000, 'c');
    await answer(3);
    t.equal((await third).data, 'c', 'asked again');
    t.equal((await talk('198.51.100.7', 7000, 'd')).data, 'd');
    t.equal(answers.length, 3, 'this one lasts');
    server.destroy();
    await once(server, 'close');
  });

  t.test('a verdict ends with its time', async (t) => {
    let asked = 0;
    const server = await start({
      mark: 7,
      decide: () => {
        asked++;
        return { action: 'relay', ttl: 100 };
      },
    });
    await talk('198.51.100.7', 7000, 'a');
    await sleep(150);
    await talk('198.51.100.7', 7000, 'b');
    t.equal(asked, 2);
    server.destroy();
    await once(server, 'close');
  });

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
    for (let i = 0; i < 64; i++) await open();
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
