// createRelayServer(): the PROXY protocol's header of a proxy in front is taken off by the relay thread.
import { once } from 'node:events';
import { BlockList, connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import {
  clientOf,
  type ConnectionRecord,
  createRelayServer,
  originalDst,
  type PendingConnection,
  type ProxyHeader,
  proxyHeader,
  type RelayDecision,
  type RelayServer,
  type RelayServerOptions,
} from '../../lib/index.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { tlv, v2, v2Tcp } from '../fixtures/proxy-headers.ts';
import { until } from '../fixtures/relay-network.ts';
import { readAll } from '../fixtures/relay-world.ts';

const from = new BlockList();
from.addAddress('127.0.0.1');
from.addAddress('::1', 'ipv6');
const CLIENT = { address: '192.0.2.7', port: 40000 };
const WORDS = 'GET / HTTP/1.1\r\nHost: words.test\r\n\r\n';

const echo = createServer(
  { allowHalfOpen: true },
  (socket) => void socket.on('error', () => {}).pipe(socket),
);
echo.listen(0, '127.0.0.1');
await once(echo, 'listening');
t.teardown(() => void echo.close());
const { port } = echo.address() as { port: number };
const ECHO = { address: '127.0.0.1', port };

interface Asked {
  kind: string;
  address?: string;
  port?: number;
  client: { address: string };
  name: string | undefined;
  header: ProxyHeader | undefined;
}

/** A server that relays to where the header says, or to the echo where it says nothing. */
async function serve(
  options: Partial<RelayServerOptions> = {},
  answer: RelayDecision | undefined = undefined,
): Promise<{ server: RelayServer; asked: Asked[] }> {
  const asked: Asked[] = [];
  const server = createRelayServer({
    proxyProtocol: { from, timeout: 5000 },
    decide: (destination, client, first, { proxyHeader: header }: PendingConnection) => {
      asked.push({ ...destination, client, name: first?.name, header });
      return answer ?? { action: 'relay', to: ECHO };
    },
    ...options,
  }).listen(0);
  await once(server, 'listening');
  return { server, asked };
}

function dial(server: RelayServer, localAddress = '127.0.0.1', host = '127.0.0.1'): Socket {
  const socket = connect({ port: server.address()!.port, host, localAddress, allowHalfOpen: true });
  return socket.on('error', () => {});
}

/** Says the pieces, one after the other, and FIN. */
async function say(socket: Socket, ...pieces: (Buffer | string)[]): Promise<{ data: string; end: string }> {
  const got = readAll(socket);
  socket.setNoDelay(true);
  for (const piece of pieces) {
    socket.write(piece);
    if (pieces.length > 1) await sleep(1);
  }
  socket.end();
  const { data, end } = await got;
  socket.destroy();
  return { data: String(data), end };
}

async function close(server: RelayServer): Promise<void> {
  server.close();
  await once(server, 'close');
}

const bytesOf = (bytes: Buffer): Buffer[] => [...bytes].map((byte) => Buffer.from([byte]));
const V1 = Buffer.from(`PROXY TCP4 ${CLIENT.address} 127.0.0.1 ${CLIENT.port} ${port}\r\n`);

t.test('the header is taken, and no byte more', async (t) => {
  const before = openSockets();
  const { server, asked } = await serve();
  const named = v2Tcp(CLIENT, ECHO, tlv(2, 'words.test'), tlv(0xea, 'of a cloud'));
  const v6 = v2Tcp({ address: '2001:db8::7', port: 1 }, { address: '2001:db8::9', port: 2 });
  for (const header of [V1, v2Tcp(CLIENT, ECHO), named, v6]) {
    for (const pieces of [
      [Buffer.concat([header, Buffer.from(WORDS)])],
      [header, WORDS],
      [...bytesOf(header), WORDS],
    ]) {
      t.same(await say(dial(server), ...pieces), { data: WORDS, end: 'fin' }, `${pieces.length} pieces`);
      const one = asked.pop()!;
      t.match(one, { kind: 'proxy', client: header === v6 ? { address: '2001:db8::7', port: 1 } : CLIENT });
      t.match(one, header === v6 ? { address: '2001:db8::9', port: 2 } : ECHO);
      t.equal(one.header!.authority, header === named ? 'words.test' : undefined);
      t.equal(one.header!.tlvs.length, header === named ? 2 : 0);
    }
  }
  t.same(await say(dial(server, '::1', '::1'), V1, 'six'), { data: 'six', end: 'fin' });
  t.match(server.stats, { proxy: 13, direct: 0, inspecting: 0, refused: {} });
  await close(server);
  t.same(await socketsLeft(before), []);
});

t.test('a proxy that speaks for itself, or does not know', async (t) => {
  const { server, asked } = await serve();
  const local = v2(0x20, 0x11, Buffer.alloc(12, 9));
  const unspecified = v2(0x21, 0, Buffer.from('anything'));
  for (const header of [local, unspecified, Buffer.from('PROXY UNKNOWN whatever it is\r\n')]) {
    t.same(await say(dial(server), header, WORDS), { data: WORDS, end: 'fin' });
    const { kind, client } = asked.pop()!;
    t.same([kind, client.address], ['direct', '127.0.0.1'], 'it is what it is without the header');
  }
  t.match(server.stats, { proxy: 0, direct: 3 });
  await close(server);
});

t.test('others are not asked for one, and what they send is not read as one', async (t) => {
  const { server, asked } = await serve();
  const forged = `${V1}${WORDS}`;
  t.same(await say(dial(server, '127.0.0.2'), forged), { data: forged, end: 'fin' });
  t.match(asked.pop(), { kind: 'direct', client: { address: '127.0.0.2' }, header: undefined });
  await close(server);
  const nobody = await serve({ proxyProtocol: { from: new BlockList() } });
  t.same(await say(dial(nobody.server), forged), { data: forged, end: 'fin' });
  await close(nobody.server);
});

t.test('what is no header, in time: RST, counted, and nobody is asked', async (t) => {
  const before = openSockets();
  const { server, asked } = await serve({ proxyProtocol: { from, timeout: 60 } });
  const records: ConnectionRecord[] = [];
  server.on('records', (some) => records.push(...some));
  const broken = v2Tcp(CLIENT, ECHO, tlv(3, Buffer.alloc(4)));
  for (const bytes of [
    'GET / HTTP/1.1\r\n\r\n',
    'PROXY TCP4 192.0.2.7 127.0.0.1 40000 99999\r\n',
    'PROXY TCP4 192.0.2.7 ::1 40000 80\r\n',
    `PROXY ${'x'.repeat(200)}`,
    v2(0x21, 0x31, Buffer.alloc(216)),
    v2(0x21, 0x12, Buffer.alloc(12)),
    Buffer.concat([v2(0x21, 0x11, Buffer.alloc(0)).subarray(0, 14), Buffer.from([0xff, 0xff])]),
    broken,
    V1.subarray(0, -1),
    v2Tcp(CLIENT, ECHO).subarray(0, 20),
    '',
  ])
    t.same(await say(dial(server), bytes), { data: '', end: 'ECONNRESET' }, JSON.stringify(String(bytes)));
  // Not ended, and not whole.
  for (const begun of ['', 'PROXY TCP4 ']) {
    const late = dial(server);
    const began = performance.now();
    late.write(begun);
    t.equal((await readAll(late)).end, 'ECONNRESET', 'late');
    t.ok(performance.now() - began > 50);
    late.destroy();
  }
  t.same(asked, []);
  t.match(server.stats, {
    refused: { ERR_PROXY_HEADER: 13 },
    proxy: 0,
    undecided: 0,
    inspecting: 0,
    gone: 0,
  });
  await close(server);
  t.equal(records.filter(({ outcome }) => outcome === 'ERR_PROXY_HEADER').length, 13);
  t.equal(records.length, 13);
  t.same(await socketsLeft(before), []);
});

t.test('with no limit of time, and destroyed meanwhile', async (t) => {
  const before = openSockets();
  const { server } = await serve({ proxyProtocol: { from, timeout: 0 }, maxPending: 1 });
  const records: ConnectionRecord[] = [];
  server.on('records', (some) => records.push(...some));
  const gone = dial(server);
  await until(() => server.stats.inspecting === 1);
  gone.resetAndDestroy();
  await until(() => server.stats.gone === 1);
  t.match(server.stats, { gone: 1, inspecting: 0, refused: {} });
  const silent = dial(server);
  const end = readAll(silent);
  await until(() => server.stats.inspecting === 1);
  const another = dial(server);
  t.equal((await readAll(another)).end, 'ECONNRESET', 'it counts as one that is not decided about');
  t.match(server.stats.refused, { ERR_MAX_PENDING: 1 });
  server.destroy();
  await once(server, 'close');
  await end;
  t.match(server.stats.refused, { ERR_SERVER_NOT_RUNNING: 1 });
  t.same(
    records.map(({ outcome }) => outcome),
    ['ERR_CLIENT_GONE', 'ERR_MAX_PENDING', 'ERR_SERVER_NOT_RUNNING'],
  );
  for (const socket of [silent, another]) socket.destroy();
  t.same(await socketsLeft(before), []);
});

t.test(
  'gone, or destroyed, while it is looked at: a record of its client, and from when it was accepted',
  async (t) => {
    const { server } = await serve({ inspect: { timeout: 60_000 }, decide: () => new Promise(() => {}) });
    const records: ConnectionRecord[] = [];
    server.on('records', (some) => records.push(...some));
    const began = Date.now();
    const [gone, silent, undecided] = [dial(server), dial(server), dial(server)];
    undecided.write(Buffer.concat([V1, Buffer.from(WORDS)]));
    await until(() => server.stats.undecided === 1 && server.stats.inspecting === 2);
    const accepted = Date.now();
    await sleep(30);
    // The thread hears of the first one first.
    for (const one of [silent, gone]) await new Promise((resolve) => one.write(V1, resolve));
    gone.resetAndDestroy();
    await until(() => server.stats.gone === 1);
    const ends = Promise.all([silent, undecided].map((socket) => readAll(socket)));
    server.destroy();
    await once(server, 'close');
    await ends;
    for (const socket of [silent, undecided]) socket.destroy();
    t.match(server.stats.refused, { ERR_SERVER_NOT_RUNNING: 2 });
    const about = { client: CLIENT, verdict: undefined, lasting: false };
    t.match(
      records.sort((one, other) => one.outcome.localeCompare(other.outcome)),
      ['ERR_CLIENT_GONE', 'ERR_SERVER_NOT_RUNNING', 'ERR_SERVER_NOT_RUNNING'].map((outcome) => ({
        ...about,
        outcome,
      })),
    );
    for (const { time, durationMs } of records) {
      t.ok(time >= began - 2 && time <= accepted + 2, `${began} <= ${time} <= ${accepted}`);
      t.ok(durationMs > 28, String(durationMs));
    }
  },
);

t.test('what follows the header is looked at', async (t) => {
  const { server, asked } = await serve({ inspect: { ports: [port], timeout: 5000 } });
  for (const pieces of [
    [Buffer.concat([V1, Buffer.from(WORDS)])],
    [V1, WORDS],
    [V1, ...bytesOf(Buffer.from(WORDS))],
  ]) {
    t.same(await say(dial(server), ...pieces), { data: WORDS, end: 'fin' });
    t.match(asked.pop(), { kind: 'proxy', name: 'words.test', client: CLIENT });
  }
  t.same(await say(dial(server), V1), { data: '', end: 'fin' }, 'one that says nothing');
  t.match(asked.pop(), { kind: 'proxy', name: undefined });
  // By the header's port, not by that of the connection.
  const elsewhere = v2Tcp(CLIENT, { address: '127.0.0.1', port: 9 });
  t.same(await say(dial(server), elsewhere, WORDS), { data: WORDS, end: 'fin' });
  t.match(asked.pop(), { kind: 'proxy', port: 9, name: undefined });
  await close(server);
});

t.test('given to the program', async (t) => {
  const { server } = await serve({ threads: 2 }, 'emit');
  const told: object[] = [];
  server.on('connection', (socket) => {
    told.push({ ...originalDst(socket), client: clientOf(socket), name: proxyHeader(socket)?.authority });
    socket.on('error', () => {}).pipe(socket);
  });
  const header = v2Tcp(CLIENT, ECHO, tlv(2, 'words.test'));
  for (let i = 0; i < 4; i++) t.same(await say(dial(server), header, WORDS), { data: WORDS, end: 'fin' });
  t.match(
    told,
    Array.from({ length: 4 }, () => ({ kind: 'proxy', ...ECHO, client: CLIENT, name: 'words.test' })),
  );
  await close(server);
});

t.test('argument errors', (t) => {
  const decide = (): 'reset' => 'reset';
  for (const [proxyProtocol, code] of [
    [{}, 'ERR_INVALID_ARG_TYPE'],
    [{ from: [] }, 'ERR_INVALID_ARG_TYPE'],
    [{ from, timeout: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ from, trust: true }, 'ERR_INVALID_ARG_VALUE'],
  ] as const)
    t.throws(() => createRelayServer({ decide, proxyProtocol: proxyProtocol as never }), { code });
  t.end();
});
