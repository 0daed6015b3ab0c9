// createServer(): how many connections of one client, and how many in a second. What goes beyond gets RST.
import { once } from 'node:events';
import { connect, type AddressInfo, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { ClientLimits, type ClientLimitOptions } from '../../lib/accept/client-limits.ts';
import { createServer, type InterceptServer, relay } from '../../lib/index.ts';
import { connections } from '../fixtures/relay-world.ts';

async function serverWith(t: Test, options: ClientLimitOptions): Promise<InterceptServer> {
  const server = createServer({ ...options }, (socket) => void socket.on('error', () => {}).write('served'));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  return server;
}

interface Client {
  socket: Socket;
  fate: Promise<string>;
}

function dial(server: InterceptServer, localAddress = '127.0.0.1'): Client {
  const { port } = server.address() as AddressInfo;
  const socket = connect({ port, host: '127.0.0.1', localAddress });
  const fate = new Promise<string>((resolve) => {
    socket.once('data', (data) => resolve(String(data)));
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code!));
  });
  return { socket, fate };
}

t.test('maxPerClient', async (t) => {
  const server = await serverWith(t, { maxPerClient: 1 });
  const [one, other] = [dial(server), dial(server, '127.0.0.2')];
  t.same([await one.fate, await other.fate], ['served', 'served']);
  t.equal(await dial(server).fate, 'ECONNRESET');
  t.match(server.interceptStats, { refused: { ERR_MAX_PER_CLIENT: 1 }, reset: 1, direct: 2 });
  one.socket.destroy();
  let again = dial(server);
  for (let i = 0; i < 100 && (await again.fate) !== 'served'; i++) again = dial(server);
  t.equal(await again.fate, 'served', 'there is room again');
  for (const { socket } of [other, again]) socket.destroy();
});

t.test('a relay counts until its end', async (t) => {
  const make = await connections(t);
  const server = createServer({ maxPerClient: 1 });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { dialled: upstream, accepted: far } = await make();
  const begun = once(server, 'connection') as Promise<[Socket]>;
  const first = dial(server);
  const joined = relay((await begun)[0], upstream);
  far.write('from afar');
  t.equal(await first.fate, 'from afar');
  t.equal(await dial(server).fate, 'ECONNRESET', 'although the server’s socket has closed');
  joined.destroy();
  await once(joined, 'close');
  server.once('connection', (socket: Socket) => socket.end('served'));
  const second = dial(server);
  t.equal(await second.fate, 'served');
  second.socket.destroy();
  server.close();
});

t.test('maxRatePerClient', async (t) => {
  const server = await serverWith(t, { maxRatePerClient: 1 });
  const all = [dial(server), dial(server), dial(server, '127.0.0.2')];
  const fates = await Promise.all(all.map(({ fate }) => fate));
  t.same(fates.sort(), ['ECONNRESET', 'served', 'served']);
  t.same(server.interceptStats.refused, { ERR_MAX_RATE_PER_CLIENT: 1 });
  for (const { socket } of all) socket.destroy();
});

t.test('by the clock: evenly, after a burst; whoever has gone is forgotten', (t) => {
  const limits = ClientLimits.read({ maxRatePerClient: 2 })!;
  const ends: (() => void)[] = [];
  const from = (remoteAddress: string | undefined) =>
    ({ remoteAddress, once: (_: string, end: () => void) => ends.push(end) }) as unknown as Socket;
  const admitted = (address: string, at: number) => limits.admit(from(address), at) === undefined;
  t.same(
    [0, 0, 0, 499, 500, 501, 1000].map((at) => admitted('192.0.2.1', at)),
    [true, true, false, false, true, false, true],
  );
  t.ok(admitted('2001:db8::1', 0) && admitted('2001:db8::2', 0));
  t.notOk(admitted('2001:db8::3', 0), 'one network of 64 bits');
  t.ok(admitted('2001:db8:0:1::1', 0));
  t.equal(limits.admit(from(undefined), 0), undefined, 'who has gone already is one client');
  for (const end of ends) end();
  for (let i = 0; i < 3000; i++) {
    limits.admit(from(`10.0.${i >> 8}.${i & 255}`), 10_000 + i);
    ends.pop()!();
  }
  t.ok(limits.size < 2100, `${limits.size} are remembered`);
  t.end();
});

t.test('bad numbers', (t) => {
  for (const name of ['maxPerClient', 'maxRatePerClient'])
    t.throws(() => createServer({ [name]: -1 }), { code: 'ERR_OUT_OF_RANGE' });
  t.equal(ClientLimits.read({}), undefined);
  t.end();
});
