// The diagnostics channels: who says what, in which order, and that nobody pays where nobody listens.
import { type Channel, channel, subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import {
  BlockList,
  connect as netConnect,
  createServer as createNetServer,
  type Server,
  Socket,
} from 'node:net';
import t, { type Test } from 'tap';
import {
  connect,
  connectVia,
  createDatagramSocket,
  createRelayServer,
  createServer,
  type DiagnosticsMessages,
  type Relay,
  relay,
  type RelayDecision,
  type RelayServer,
  type RelayServerOptions,
} from '../lib/index.ts';
import { accepted, listening } from './fixtures/connections.ts';
import { echoServer, standInProxy } from './fixtures/proxies.ts';
import { deadPort, outcome, readAll, world } from './fixtures/relay-world.ts';
import { client as udpClient, nextMessage } from './fixtures/udp.ts';

type Name = keyof DiagnosticsMessages;
const NAMES: readonly Name[] = [
  'original-dst:connection',
  'original-dst:decision',
  'original-dst:dial',
  'original-dst:relay',
  'original-dst:datagram',
  'original-dst:error',
];
type Message = { [N in Name]: { name: N; message: DiagnosticsMessages[N] } }[Name];

/** All that is published from here to the end of the test. */
function published(t: Test): Message[] {
  const messages: Message[] = [];
  for (const name of NAMES) {
    const listener = (message: unknown): void => void messages.push({ name, message } as Message);
    subscribe(name, listener);
    t.teardown(() => unsubscribe(name, listener));
  }
  return messages;
}

const namesOf = (messages: Message[]): string[] => messages.map(({ name }) => name.split(':')[1]!);

function only<N extends Name>(messages: Message[], wanted: N): DiagnosticsMessages[N] {
  const found = messages.filter(({ name }) => name === wanted);
  if (found.length !== 1) throw new Error(`${found.length} messages on ${wanted}`);
  return found[0]!.message as DiagnosticsMessages[N];
}

async function relayServer(t: Test, options: RelayServerOptions): Promise<RelayServer> {
  const server = createRelayServer(options).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.destroy());
  return server;
}

/** A client that has said hello. */
function hello(server: RelayServer): Socket {
  const socket = netConnect(server.address()!.port, '127.0.0.1').on('error', () => {});
  socket.end('hello');
  return socket;
}

t.test('createServer: what becomes of a connection', async (t) => {
  for (const [direct, verdict] of [
    ['emit', 'emit'],
    ['reset', 'reset'],
  ] as const) {
    await t.test(verdict, async (t) => {
      const messages = published(t);
      const server = createServer({ direct }, (socket) => socket.end());
      const port = await listening(t, server, { host: '127.0.0.1' });
      if (verdict === 'emit') await accepted(t, server as Server, port, '127.0.0.1');
      else await readAll(netConnect(port, '127.0.0.1'));
      t.same(namesOf(messages), ['connection', 'decision']);
      const said = only(messages, 'original-dst:decision');
      t.match(said, { originalDst: { kind: 'direct', port }, verdict, ttl: 0 });
      t.equal(said.server, server);
      t.ok('socket' in said && said.socket instanceof Socket);
    });
  }
});

t.test('createRelayServer: decided, dialled, relayed', async (t) => {
  const { port } = await echoServer(t, '127.0.0.1');
  const dead = await deadPort();
  const messages = published(t);
  const to = [dead, port].map((each) => ({ address: '127.0.0.1', port: each }));
  const server = await relayServer(t, { decide: () => ({ action: 'relay', to, ttl: 1000 }) });
  const client = hello(server);
  t.equal(String((await readAll(client)).data), 'hello');
  t.same(namesOf(messages), ['connection', 'decision', 'dial', 'relay']);
  const decision = only(messages, 'original-dst:decision');
  t.match(decision, {
    originalDst: { kind: 'direct' },
    verdict: 'relay',
    ttl: 1000,
    client: { family: 'IPv4' },
  });
  t.equal(decision.server, server);
  const dial = only(messages, 'original-dst:dial');
  t.same(dial.to, to, 'in their order');
  t.notOk('via' in dial);
  const joined = only(messages, 'original-dst:relay');
  t.ok('server' in joined && joined.server === server && joined.originalDst.kind === 'direct');
  t.ok('relay' in dial && dial.relay === joined.relay);
  t.same(await outcome(joined.relay), { reason: 'end' });
});

t.test('createRelayServer: each channel by itself, and the name that a proxy is told', async (t) => {
  const { port } = await echoServer(t, '127.0.0.1');
  const proxy = await standInProxy(t, 'socks5', {
    username: 'u',
    password: 'p',
    names: { 'a.test': '127.0.0.1' },
  });
  const { asked: _, ...via } = { ...proxy, username: 'u', password: 'p' };
  const server = await relayServer(t, {
    decide: () => ({ action: 'relay', to: { name: 'a.test', port }, via }),
  });
  for (const name of ['original-dst:dial', 'original-dst:relay'] as const) {
    const messages: unknown[] = [];
    // The stand-in dials too.
    const listener = (message: unknown): void => {
      if ('server' in (message as object)) messages.push(message);
    };
    subscribe(name, listener);
    t.equal(String((await readAll(hello(server))).data), 'hello');
    unsubscribe(name, listener);
    t.equal(messages.length, 1, name);
    if (name !== 'original-dst:dial') continue;
    const { to, via: by } = messages[0] as DiagnosticsMessages[typeof name];
    t.same(to, [{ name: 'a.test', port }]);
    t.same(by, { protocol: 'socks5', address: proxy.address, port: proxy.port }, 'without the password');
  }
});

t.test('createRelayServer: destroyed by who was told first', async (t) => {
  // One that says nothing: nothing else can end the relay.
  const silent = createNetServer((socket) => socket.on('error', () => {}).resume());
  const to = { address: '127.0.0.1', port: await listening(t, silent, { host: '127.0.0.1' }) };
  for (const name of ['original-dst:dial', 'original-dst:relay'] as const) {
    for (const what of ['relay', 'server'] as const) {
      const told: Relay[] = [];
      const against = (message: unknown): void => {
        const about = message as DiagnosticsMessages[typeof name];
        if (!('server' in about)) return;
        about[what].destroy();
        told.push(about.relay);
      };
      const server = await relayServer(t, { decide: () => ({ action: 'relay', to }) });
      subscribe(name, against);
      await readAll(hello(server));
      unsubscribe(name, against);
      t.equal(told.length, 1, `${name}: ${what}`);
      t.same(await outcome(told[0]!), { reason: 'aborted' });
    }
  }
});

t.test('createRelayServer: why a connection is refused', async (t) => {
  const refusals: [string, Partial<RelayServerOptions> & { decide: () => RelayDecision | Promise<never> }][] =
    [
      [
        'ERR_EGRESS_DENIED',
        {
          egress: { allow: new BlockList() },
          decide: () => ({ action: 'relay', to: { address: '192.0.2.1', port: 1 } }),
        },
      ],
      ['ERR_DECISION_TIMEOUT', { decisionTimeout: 1, decide: () => new Promise(() => {}) }],
      ['ERR_OUT_OF_RANGE', { decide: () => 'drop' as RelayDecision }],
      [
        'ERR_OWN',
        {
          decide: () => {
            throw Object.assign(new Error('no'), { code: 'ERR_OWN' });
          },
        },
      ],
    ];
  for (const [code, options] of refusals) {
    await t.test(code, async (t) => {
      const messages = published(t);
      const server = await relayServer(t, options);
      server.on('error', () => {});
      await readAll(hello(server));
      const said = only(messages, 'original-dst:error');
      t.match(said.error, { code });
      t.ok('client' in said && said.server === server && said.client.address === '127.0.0.1');
      t.same(
        messages.filter(({ name }) => name === 'original-dst:dial'),
        [],
      );
    });
  }
});

t.test('connect and connectVia', async (t) => {
  const { port } = await echoServer(t, '127.0.0.1');
  const { asked: _, ...proxy } = await standInProxy(t, 'http', { username: 'u', password: 'p' });
  const messages = published(t);
  const dials: [Socket, object][] = [
    [connect({ address: '::ffff:127.0.0.1', port }), { to: [{ address: '127.0.0.1', port }] }],
    [connect({ address: 'localhost', port }), { to: [{ name: 'localhost', port }] }],
    [
      connectVia({ ...proxy, username: 'u', password: 'p' }, { address: '127.0.0.1', port }),
      { to: [{ address: '127.0.0.1', port }], via: proxy },
    ],
  ];
  for (const [socket] of dials) socket.on('error', () => {}).destroy();
  t.same(namesOf(messages), ['dial', 'dial', 'dial'], 'once, with a proxy too');
  messages.forEach(({ message }, at) => {
    const [socket, expected] = dials[at]!;
    t.same(message, { socket, ...expected });
  });
});

t.test('relay', async (t) => {
  const messages = published(t);
  const one = await world(t);
  const joined = relay(one.client, one.upstream);
  t.same(namesOf(messages), ['relay']);
  const said = only(messages, 'original-dst:relay');
  t.equal(said.relay, joined);
  t.ok('sockets' in said && said.sockets.client === one.client && said.sockets.upstream === one.upstream);
  joined.destroy();
  await outcome(joined);

  const two = await world(t);
  const against = (message: unknown): void =>
    void (message as DiagnosticsMessages['original-dst:relay']).relay.destroy();
  subscribe('original-dst:relay', against);
  const ended = relay(two.client, two.upstream);
  unsubscribe('original-dst:relay', against);
  t.same(await outcome(ended), { reason: 'aborted' }, 'by who was told first');
});

t.test('relay() to a destination', async (t) => {
  const { port } = await echoServer(t, '127.0.0.1');
  const destination = { address: '127.0.0.1', port };
  for (const engine of ['native', 'pipe'] as const) {
    await t.test(engine, async (t) => {
      const one = await world(t);
      const messages = published(t);
      const joined = relay(one.client, { ...destination, kind: 'direct' } as typeof destination, { engine });
      t.same(namesOf(messages), ['relay', 'dial']);
      t.same(only(messages, 'original-dst:relay'), {
        relay: joined,
        sockets: { client: one.client },
        destination,
      });
      const dial = only(messages, 'original-dst:dial');
      t.same(dial.to, [destination]);
      t.ok(engine === 'native' ? 'relay' in dial && dial.relay === joined : 'socket' in dial);
      one.left.end();
      one.left.resume();
      t.same(await outcome(joined), { reason: 'end' });
    });
  }
  const { client } = await world(t);
  const against = (message: unknown): void => {
    const dial = message as DiagnosticsMessages['original-dst:dial'];
    if ('relay' in dial) dial.relay.destroy();
  };
  subscribe('original-dst:dial', against);
  const ended = relay(client, destination);
  unsubscribe('original-dst:dial', against);
  t.same(await outcome(ended), { reason: 'aborted' }, 'by who was told first');
});

t.test('datagrams', async (t) => {
  const socket = createDatagramSocket({ address: '127.0.0.1' });
  t.teardown(() => socket.close());
  const from = await udpClient('udp4');
  t.teardown(() => from.close());
  const messages = published(t);
  from.send('hello', socket.address().port, '127.0.0.1');
  const [data, info] = await nextMessage(socket);
  t.same(namesOf(messages), ['datagram']);
  const said = only(messages, 'original-dst:datagram');
  t.ok(said.socket === socket && said.data === data && said.info === info, 'the very message');
});

t.test('where nobody listens nothing is made', async (t) => {
  const made: string[] = [];
  for (const name of NAMES) {
    const each: Channel = channel(name);
    t.equal(each.hasSubscribers, false);
    each.publish = () => void made.push(name);
    t.teardown(() => delete (each as Partial<Channel>).publish);
  }
  const { port } = await echoServer(t, '127.0.0.1');
  const server = await relayServer(t, {
    decide: () => ({ action: 'relay', to: { address: '127.0.0.1', port } }),
  });
  t.equal(String((await readAll(hello(server))).data), 'hello');
  const intercepted = createServer((socket) => socket.end());
  await accepted(
    t,
    intercepted as Server,
    await listening(t, intercepted, { host: '127.0.0.1' }),
    '127.0.0.1',
  );
  connect({ address: '127.0.0.1', port }).destroy();
  const { client, upstream } = await world(t);
  const joined = relay(client, upstream);
  joined.destroy();
  await outcome(joined);
  const socket = createDatagramSocket({ address: '127.0.0.1' });
  t.teardown(() => socket.close());
  const from = await udpClient('udp4');
  t.teardown(() => from.close());
  from.send('hello', socket.address().port, '127.0.0.1');
  await nextMessage(socket);
  t.same(made, []);
});
