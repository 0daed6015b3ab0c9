// Conntrack entries that are deleted while datagrams wait to be read, or while a decision is still believed: the entry
// that is there afterwards may be another datagram's.
import type { Socket } from 'node:dgram';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { createDatagramSocket, type DatagramInfo, type InterceptedDatagramSocket } from '../../lib/index.ts';
import { DeletedFlows } from '../../lib/udp/deleted-flows.ts';
import { beliefsExpired, flushConntrack } from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace, nft, sh } from '../fixtures/netns.ts';
import { client, nextMessage, redirectRules } from '../fixtures/udp.ts';

const NETWORKS = [
  { type: 'udp4', self: '192.0.2.1', first: '198.51.100.7', second: '198.51.100.8' },
  { type: 'udp6', self: '2001:db8:1::1', first: '2001:db8:2::7', second: '2001:db8:2::8' },
] as const;

/** What is known of a datagram whose text is where it was sent. */
function found(data: Buffer, info: DatagramInfo): string {
  if (info.kind === 'unknown') return `unknown ${info.cause.code}`;
  return `${info.kind} ${info.destination.address === String(data) ? 'right' : 'wrong'}`;
}

async function send(from: Socket, address: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    from.send(address, 53, address, (error) => (error ? reject(error) : resolve()));
  });
}

async function open(t: Test, type: 'udp4' | 'udp6', self: string) {
  const socket = createDatagramSocket({ port: 15053 });
  const from = await client(type, self);
  t.teardown(() => (socket.close(), from.close()));
  return { socket, from };
}

/** Reads what has come in while the socket was paused. */
async function read(socket: InterceptedDatagramSocket, count: number): Promise<string[]> {
  const all: string[] = [];
  socket.on('message', (data, info) => all.push(found(data, info)));
  socket.resume();
  for (let i = 0; i < 1000 && all.length < count; i++) await delay(5);
  socket.removeAllListeners('message');
  return all;
}

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  nft(redirectRules(15053));

  for (const { type, self, first, second } of NETWORKS) {
    await t.test(`${type}: the first datagrams of a flow, several at once`, async (t) => {
      const { socket, from } = await open(t, type, self);
      socket.pause();
      for (let i = 0; i < 3; i++) await send(from, first);
      await send(from, second);
      t.same(await read(socket, 4), Array(4).fill('redirect right'));
    });

    for (const [how, forget] of Object.entries({
      flushed: flushConntrack,
      'deleted alone': () => sh(`conntrack -D -p udp -d ${first} 2>/dev/null`),
    })) {
      await t.test(`${type}: ${how} between a datagram and another to elsewhere`, async (t) => {
        const { socket, from } = await open(t, type, self);
        socket.pause();
        await send(from, first);
        forget();
        await send(from, second);
        t.same(await read(socket, 2), Array(2).fill('unknown ENOENT'));
        await send(from, second);
        t.same(await read(socket, 1), ['redirect right'], 'and from then on it is known');
      });

      await t.test(`${type}: ${how} behind a datagram that has been read`, async (t) => {
        const { socket, from } = await open(t, type, self);
        await send(from, first);
        const [data, info] = await nextMessage(socket);
        t.equal(found(data, info), 'redirect right');
        forget();
        await send(from, second);
        const [, late] = await nextMessage(socket);
        t.match(late, { kind: 'unknown', cause: { code: 'ENOENT', hint: /while it waited/ } });
        await send(from, second);
        t.equal(found(...(await nextMessage(socket))), 'redirect right');
      });
    }

    await t.test(`${type}: an entry that an answer has made`, async (t) => {
      const { socket, from } = await open(t, type, self);
      // Where a redirection leads to as well.
      const here = type === 'udp4' ? '127.0.0.1' : '::1';
      const sendHere = async (): Promise<void> => {
        await new Promise<void>((resolve) => from.send(here, 15053, here, () => resolve()));
      };
      await sendHere();
      const [data, info] = await nextMessage(socket);
      t.equal(found(data, info), 'direct right');
      flushConntrack();
      t.equal(socket.reply('answer', info), undefined);
      await sendHere();
      t.equal(found(...(await nextMessage(socket))), 'unknown ENOENT');
      await sendHere();
      t.equal(found(...(await nextMessage(socket))), 'direct right', 'by the entry of the answer');
      socket.pause();
      await sendHere();
      flushConntrack();
      await send(from, second);
      t.same(await read(socket, 2), Array(2).fill('unknown ENOENT'));
    });

    await t.test(`${type}: an entry whose time was up is nobody else’s`, async (t) => {
      const { socket, from } = await open(t, type, self);
      sh('sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1');
      t.teardown(() => sh('sysctl -qw net.netfilter.nf_conntrack_udp_timeout=30'));
      await send(from, first);
      t.equal(found(...(await nextMessage(socket))), 'redirect right');
      await delay(1200);
      await send(from, second);
      t.equal(found(...(await nextMessage(socket))), 'redirect right');
    });
  }

  for (const [how, last] of Object.entries({
    deleted: async () => flushConntrack(),
    'out of time': async () => delay(1200),
  })) {
    await t.test(`rules that go while a datagram waits, and its entry, ${how}`, async (t) => {
      beliefsExpired();
      sh('sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1');
      t.teardown(() => sh('sysctl -qw net.netfilter.nf_conntrack_udp_timeout=30'));
      const { socket, from } = await open(t, 'udp4', '192.0.2.1');
      await send(from, '198.51.100.7');
      t.equal(found(...(await nextMessage(socket))), 'redirect right');
      socket.pause();
      await send(from, '198.51.100.8');
      nft('delete table inet udp_redirect');
      t.teardown(() => nft(redirectRules(15053)));
      await last();
      t.same(await read(socket, 1), ['unknown ENOENT']);
    });
  }

  await t.test('rules of which nothing is known but that an entry was deleted', async (t) => {
    beliefsExpired();
    const { socket, from } = await open(t, 'udp4', '192.0.2.1');
    socket.pause();
    await send(from, '198.51.100.8');
    nft('delete table inet udp_redirect');
    t.teardown(() => nft(redirectRules(15053)));
    flushConntrack();
    t.same(await read(socket, 1), ['unknown ENOENT']);
  });

  await t.test('an entry that the socket itself began, deleted behind an answer to it', async (t) => {
    const { socket, from } = await open(t, 'udp4', '192.0.2.1');
    const source = { address: '127.0.0.1', port: 15053 };
    socket.send('question', { destination: from.address(), source });
    await nextMessage(from);
    from.send('answer', 15053, '127.0.0.1');
    t.match((await nextMessage(socket))[1], { kind: 'direct' });
    flushConntrack();
    await send(from, '198.51.100.7');
    t.not(found(...(await nextMessage(socket))), 'direct wrong', 'what was found out before is not believed');
  });

  await t.test('more deletions than are told at a time', async (t) => {
    const { socket, from } = await open(t, 'udp4', '192.0.2.1');
    socket.pause();
    await send(from, '198.51.100.7');
    const others = await Promise.all(Array.from({ length: 40 }, async () => client('udp4', '192.0.2.1')));
    for (const other of others) await send(other, '198.51.100.9');
    flushConntrack();
    await send(from, '198.51.100.8');
    t.same(await read(socket, 42), Array(42).fill('unknown ENOENT'));
    for (const other of others) other.close();
  });

  await t.test('a kernel that does not tell', async (t) => {
    sh('sysctl -qw net.netfilter.nf_conntrack_events=0');
    t.teardown(() => sh('sysctl -qw net.netfilter.nf_conntrack_events=2'));
    const { socket, from } = await open(t, 'udp4', '192.0.2.1');
    await send(from, '198.51.100.7');
    const [, info] = await nextMessage(socket);
    t.match(info, { kind: 'unknown', cause: { code: 'ENOTSUP', hint: /nf_conntrack_events/ } });
  });

  await t.test('which datagrams a deletion counts against', (t) => {
    const end = (port: number) => ({ address: '192.0.2.1', port, family: 'IPv4' as const });
    const local = { address: '127.0.0.1', port: 53, family: 'IPv4' as const };
    let told: number[] = [];
    let complete = true;
    const flows = new DeletedFlows({
      watch: () => true,
      deletions: (each) => {
        for (const port of told) each(end(port), local);
        told = [];
        return complete;
      },
    });
    const forgotten: unknown[] = [];
    const learn = (...ports: number[]): void => {
      told = ports;
      flows.learn((flow) => forgotten.push(flow));
    };
    const flow = (port: number): string => `${port} 192.0.2.1 127.0.0.1`;

    learn(1);
    t.notOk(flows.has(flow(1)), 'nobody listens yet');
    flows.watch();
    flows.startBatch(false);
    learn(1);
    t.ok(flows.has(flow(1)));
    t.notOk(flows.has(flow(2)));
    flows.startBatch(false);
    t.ok(flows.has(flow(1)), 'the queue was never empty since');
    flows.startBatch(true);
    learn(2);
    t.ok(flows.has(flow(1)), 'this batch may be older than the news');
    t.ok(flows.has(flow(2)));
    flows.startBatch(true);
    learn();
    t.notOk(flows.has(flow(1)), 'this one is younger');
    t.ok(flows.has(flow(2)), 'the news of the last batch may be younger than this one');
    flows.startBatch(true);
    t.notOk(flows.has(flow(2)));
    complete = false;
    learn();
    complete = true;
    t.ok(flows.has(flow(3)), 'anything may have been missed');
    flows.startBatch(true);
    t.ok(flows.has(flow(3)));
    flows.startBatch(true);
    t.notOk(flows.has(flow(3)));
    t.same(forgotten, [flow(1), flow(2), undefined]);
    t.end();
  });
});
