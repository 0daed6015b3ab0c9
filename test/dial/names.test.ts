// connect() to a host name: the look-up's events, and several addresses in turn, as net.connect has them.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { BlockList, connect as netConnect, createServer, type AddressInfo, type Socket } from 'node:net';
import { constants } from 'node:os';
import t, { type Test } from 'tap';
import { binding } from '../../lib/binding.ts';
import { connect, type ConnectOptions } from '../../lib/index.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';

const MARK = 7;

async function serverAt(t: Test, host: string): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => {}).end('seen')).listen(0, host);
  t.teardown(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** What a socket does from its making to its end, without what differs from one to the next. */
async function story(t: Test, make: () => Socket): Promise<unknown[]> {
  const before = openSockets();
  const events: unknown[] = [];
  const socket = make();
  events.push(['made', socket.localPort, socket.timeout]);
  const names = ['lookup', 'connectionAttempt', 'connectionAttemptFailed', 'connectionAttemptTimeout'];
  for (const name of [...names, 'connect', 'error', 'close']) {
    socket.on(name, (...args: unknown[]) => {
      const plain = args.map((arg) => {
        const { code, message, errors } = Object(arg) as AggregateError & { code?: string };
        return arg instanceof Error ? [code, message, (errors ?? []).map(String)] : arg;
      });
      events.push([name, ...plain]);
    });
  }
  socket.on('connect', () => events.push(['connected', socket.remoteAddress])).resume();
  await new Promise((resolve) => socket.once('close', resolve));
  t.same(await socketsLeft(before), [], 'no socket is left open');
  return events;
}

await inNamespace(t, import.meta.url, async () => {
  sh(`
    ip link add v0 type veth peer name v1
    ip addr add 10.8.0.1/24 dev v0
    ip link set v0 up
    ip link set v1 up
    ip neigh add 10.8.0.99 lladdr 02:00:00:00:00:99 dev v0
    printf '127.0.0.1 four.test both.test\\n::1 both.test six.test\\n' > /run/hosts
    printf '10.8.0.99 silent.test\\n127.0.0.1 silent.test\\n' >> /run/hosts
    mount --bind /run/hosts /etc/hosts
  `);
  nft('table inet marked {\n chain output {\n type filter hook output priority 0\n }\n }');

  const four = await serverAt(t, '127.0.0.1');
  const six = await serverAt(t, '::1');

  t.test('the events, errors and properties of net.connect', async (t) => {
    const cases: [string, Omit<ConnectOptions, 'address'> & { host: string }][] = [
      ['one address', { host: 'four.test', port: four }],
      ['the first refuses', { host: 'both.test', port: four }],
      ['the second is not needed', { host: 'both.test', port: six }],
      ['all refuse', { host: 'both.test', port: 1 }],
      ['one, and it refuses', { host: 'four.test', port: 1 }],
      ['one address alone is to be dialled', { host: 'both.test', port: four, autoSelectFamily: false }],
      ['the first does not answer', { host: 'silent.test', port: four, autoSelectFamilyAttemptTimeout: 20 }],
      ['a name that there is not', { host: '*'.repeat(64), port: four }],
      ['a literal address', { host: '127.0.0.1', port: four, timeout: 0 }],
      ['a literal address that refuses', { host: '::1', port: 1, timeout: 5000 }],
    ];
    for (const [name, { host, ...options }] of cases) {
      const theirs = await story(t, () => netConnect({ host, ...options }));
      const plain = await story(t, () => connect({ address: host, ...options }));
      t.same(plain, theirs, name);
      const marked = await story(t, () => connect({ address: host, ...options, mark: MARK }));
      t.same(marked, theirs, `${name}, with a mark`);
    }
  });

  t.test('each attempt is made with what was asked for', async (t) => {
    nft(`add rule inet marked output tcp dport ${four} meta mark != ${MARK} reject with tcp reset`);
    const options = { address: 'both.test', port: four };
    const unmarked = await story(t, () => connect(options));
    t.match(unmarked.at(-2), ['error', ['ECONNREFUSED']]);
    const marked = await story(t, () => connect({ ...options, mark: MARK }));
    t.same(marked.at(-2), ['connected', '127.0.0.1'], 'the second one too');
    nft('flush chain inet marked output');
  });

  t.test('what the system refuses to all of them is no attempt', async (t) => {
    const events = await story(t, () => connect({ address: 'both.test', port: four, interface: 'nope0' }));
    t.match(events.slice(1), [
      ['error', ['ENODEV', /SO_BINDTODEVICE/]],
      ['close', true],
    ]);
    const source = { address: '::1' };
    const alone = await story(t, () =>
      connect({ address: 'both.test', port: six, source, interface: 'nope0' }),
    );
    t.match(alone.at(-2), ['error', ['ENODEV', /SO_BINDTODEVICE/]]);
  });

  t.test('a host without IPv6', async (t) => {
    const addon = binding();
    const open = addon.openDialSocket;
    t.teardown(() => (addon.openDialSocket = open));
    addon.openDialSocket = (family, ...rest) =>
      family === 6 ? [-constants.errno.EAFNOSUPPORT, 1] : open(family, ...rest);
    const events = await story(t, () => connect({ address: 'both.test', port: four, mark: MARK }));
    t.match(events.at(-2), ['connected', '127.0.0.1']);
    t.ok(events.some((event) => (event as string[])[0] === 'connectionAttemptFailed'));
    const error = await story(t, () => connect({ address: 'six.test', port: four, mark: MARK }));
    t.match(error.at(-2), ['error', ['EAFNOSUPPORT', /^socket EAFNOSUPPORT/]], 'the only address');
  });

  t.test('the egress policy is asked about each address', async (t) => {
    const deny = new BlockList();
    deny.addAddress('::1', 'ipv6');
    const options: ConnectOptions = { address: 'both.test', port: four, egress: { deny } };
    for (const more of [
      {},
      { mark: MARK },
      { autoSelectFamily: false },
      { source: { address: '127.0.0.6' } },
    ]) {
      const events = await story(t, () => connect({ ...options, ...more }));
      t.match(events.slice(1), [
        ['lookup', null, '127.0.0.1', 4, 'both.test'],
        ['connectionAttempt', '127.0.0.1', four, 4],
        ['connect'],
        ['connected', '127.0.0.1'],
        ['close', false],
      ]);
    }
    deny.addAddress('127.0.0.1');
    for (const more of [{}, { mark: MARK }, { autoSelectFamily: false }]) {
      const events = await story(t, () => connect({ ...options, ...more }));
      t.match(events.slice(1), [
        ['error', ['ERR_EGRESS_DENIED', /denies \[::1\]/]],
        ['close', true],
      ]);
    }
  });

  t.test('destroyed during the look-up: nothing comes after close', async (t) => {
    for (const address of ['both.test', 'no-such-name.invalid']) {
      for (const autoSelectFamily of [true, false]) {
        const events = await story(t, () =>
          connect({ address, port: four, mark: MARK, autoSelectFamily }).destroy(),
        );
        await new Promise((resolve) => setTimeout(resolve, 50));
        t.same(events.slice(1), [['close', false]]);
      }
    }
  });

  t.test('argument errors', async (t) => {
    for (const [options, code] of [
      [{ autoSelectFamily: 1 }, 'ERR_INVALID_ARG_TYPE'],
      [{ autoSelectFamilyAttemptTimeout: 0 }, 'ERR_OUT_OF_RANGE'],
    ] as const) {
      t.throws(() => connect({ address: 'both.test', port: four, ...options } as ConnectOptions), { code });
    }
  });

  t.test('diagnostics_channel net.client.socket', async (t) => {
    const seen: unknown[] = [];
    const see = (message: unknown): void => void seen.push((message as { socket: Socket }).socket);
    subscribe('net.client.socket', see);
    t.teardown(() => unsubscribe('net.client.socket', see));
    for (const options of [{}, { mark: MARK }]) {
      const socket = connect({ address: '127.0.0.1', port: four, ...options });
      socket.on('error', () => {}).resume();
      t.same(seen.splice(0), [socket]);
      await new Promise((resolve) => socket.once('close', resolve));
    }
  });
});
