// createRelayServer(): one record for each connection, in batches, whoever has dealt with it; and how long things took.
import { once } from 'node:events';
import { BlockList, connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  type ConnectionRecord,
  type Histogram,
  type RelayDecision,
  type RelayServer,
  type RelayServerOptions,
} from '../../lib/index.ts';
import { HISTOGRAM_SIZE, observe, sumOf } from '../../lib/relay/histogram.ts';
import { type OpenRecord, RecordBatches } from '../../lib/relay/records.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { hello, serverName } from '../fixtures/hellos.ts';
import { relayNetwork, start, talk, until } from '../fixtures/relay-network.ts';
import { closed } from '../fixtures/relay-world.ts';

const FAR = '198.51.100.7';

interface Recorded {
  server: RelayServer;
  /** Waits for so many records, and takes them. */
  take: (count: number) => Promise<ConnectionRecord[]>;
}

async function recorded(t: Test, options: Partial<RelayServerOptions>): Promise<Recorded> {
  const server = await start({ mark: 7, decide: () => 'relay', ...options });
  const records: ConnectionRecord[] = [];
  server.on('records', (batch) => records.push(...batch));
  t.teardown(async () => {
    server.destroy();
    await server[Symbol.asyncDispose]();
  });
  const take = async (count: number): Promise<ConnectionRecord[]> => {
    await until(() => records.length >= count);
    return records.splice(0);
  };
  return { server, take };
}

/** One client, until its connection is over. */
async function visit(port = 7000, words = 'words', to = FAR): Promise<void> {
  await talk(to, port, words);
}

const unknown = { kind: 'unknown', cause: Object.assign(new Error('none'), { code: 'ENOENT' }) };

t.test('a batch that is full is told at once', (t) => {
  const told: ConnectionRecord[][] = [];
  const batches = new RecordBatches((records) => told.push(records));
  const begin = (): OpenRecord | undefined =>
    batches.begin({ address: '192.0.2.1', port: 1, family: 'IPv4' }, unknown as never, undefined, 0);
  t.equal(begin(), undefined, 'nobody wants them');
  batches.wanted = true;
  for (let i = 0; i < 256; i++) begin()!.end(undefined, 'ENOENT');
  t.equal(told.length, 1);
  t.match(told[0]![255], { kind: 'unknown', destination: undefined, outcome: 'ENOENT' });
  t.end();
});

t.test('what took longer than anything', (t) => {
  const memory = new Float64Array(HISTOGRAM_SIZE);
  observe('connectMs', memory, 1e9);
  const { bounds, counts } = sumOf('connectMs', [memory]);
  t.same([counts.length, counts.at(-1)], [bounds.length + 1, 1]);
  t.end();
});

const total = ({ counts }: Histogram): number => counts.reduce((sum, count) => sum + count, 0);

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);

  for (const [who, ttl] of Object.entries({ 'by decide': 0, 'by lasting verdict': 60_000 })) {
    const lasting = ttl > 0;
    t.test(`relayed, reset and failed, ${who}`, async (t) => {
      let action: 'relay' | 'reset' = 'relay';
      const { server, take } = await recorded(t, { decide: () => (ttl === 0 ? action : { action, ttl }) });
      const began = Date.now();
      const records: ConnectionRecord[] = [];
      // Each is waited for: those of the thread and those of this one come by themselves.
      const recordedVisit = async (port = 7000, words = 'words'): Promise<void> => {
        await visit(port, words);
        records.push(...(await take(1)));
      };
      for (const words of ['first', 'second']) await recordedVisit(7000, words);
      // Nobody listens at 7001.
      for (let i = 0; i < 2; i++) await recordedVisit(7001);
      action = 'reset';
      server.revoke();
      for (let i = 0; i < 2; i++) await recordedVisit();
      const shared = { kind: 'redirect', client: { address: '192.0.2.1', family: 'IPv4' } } as const;
      const to = (port: number) => ({ address: FAR, port, family: 'IPv4' });
      const relay = { ...shared, destination: to(7000), verdict: 'relay', outcome: 'end' } as const;
      const failed = {
        ...relay,
        destination: to(7001),
        outcome: 'ECONNREFUSED',
        connectMs: undefined,
      } as const;
      const reset = { ...relay, verdict: 'reset', outcome: 'reset by verdict', bytesToUpstream: 0 } as const;
      t.match(records, [
        { ...relay, lasting: false, bytesToUpstream: 5, bytesToClient: 5, connectMs: Number },
        { ...relay, lasting, bytesToUpstream: 6, bytesToClient: 6, connectMs: Number },
        { ...failed, lasting: false },
        { ...failed, lasting },
        { ...reset, lasting: false },
        { ...reset, lasting },
      ]);
      t.equal(records.length, 6);
      for (const { time, durationMs, connectMs = 0, client } of records) {
        t.ok(time >= began - 1000 && time <= Date.now() + 1000, 'when');
        t.ok(durationMs >= 0 && durationMs < 60_000 && connectMs >= 0, 'how long');
        t.ok(client.port > 0);
      }
      const { connectMs, durationMs } = server.stats;
      t.equal(total(connectMs), 2, 'two have connected');
      t.equal(total(durationMs), 4, 'and four were relays');
      t.ok(durationMs.sum >= connectMs.sum, `dials are a part of them: ${durationMs.sum}, ${connectMs.sum}`);
    });
  }

  t.test('what was not decided, or otherwise', async (t) => {
    const coded = Object.assign(new Error('no'), { code: 'ERR_MINE' });
    const answers: (() => RelayDecision | Promise<RelayDecision>)[] = [
      () => 'emit',
      () => {
        throw coded;
      },
      () => Promise.reject(new RangeError('no')),
      () => new Promise(() => {}),
      () => ({ action: 'relay', proxyProtocol: 1 }),
      () => ({ action: 'relay', to: { address: '203.0.113.1' } }),
    ];
    const deny = new BlockList();
    deny.addAddress('203.0.113.1');
    const { server, take } = await recorded(t, {
      decide: () => answers.shift()!(),
      decisionTimeout: 20,
      egress: { deny },
    });
    server.on('error', () => {});
    server.on('connection', (socket) => socket.destroy());
    const outcomes: unknown[] = [];
    while (answers.length > 0) {
      await visit();
      const [record] = await take(1);
      outcomes.push([record!.verdict, record!.outcome]);
      if (record!.outcome === 'end') t.type(record!.connectMs, 'number');
    }
    t.same(outcomes, [
      ['emit', 'emitted'],
      [undefined, 'ERR_MINE'],
      [undefined, 'RangeError'],
      [undefined, 'ERR_DECISION_TIMEOUT'],
      ['relay', 'end'],
      ['relay', 'ERR_EGRESS_DENIED'],
    ]);
    t.equal(total(server.stats.connectMs), 1, 'by Node’s sockets too');
  });

  t.test('limits, and names', async (t) => {
    const { server, take } = await recorded(t, {
      decide: () => ({ action: 'relay', ttl: 60_000 }),
      inspect: { timeout: 60_000 },
      maxPerClient: 1,
      maxPending: 1,
    });
    const bytes = hello({ extensions: [serverName('a.example')] });
    const known = { protocol: 'tls', name: 'a.example', outcome: 'end' };
    for (const lasting of [false, true]) {
      await visit(7000, bytes as never);
      t.match(await take(1), [{ ...known, lasting }]);
    }
    const silent = connect(7000, FAR).on('error', () => {});
    await until(() => server.stats.inspecting === 1);
    await visit();
    t.match(await take(1), [
      { outcome: 'ERR_MAX_PER_CLIENT', verdict: undefined, kind: 'unknown', destination: undefined },
    ]);
    silent.resetAndDestroy();
    const [gone] = await take(1);
    t.match(gone, { outcome: 'ERR_CLIENT_GONE', kind: 'redirect', destination: { address: FAR } });
    t.notOk('protocol' in gone!);
  });

  t.test('it begins when it is accepted, not when it has said enough', async (t) => {
    const { server, take } = await recorded(t, { inspect: { timeout: 60_000 } });
    const slow = connect(7000, FAR).on('error', () => {});
    await until(() => server.stats.inspecting === 1);
    const accepted = Date.now();
    await sleep(50);
    const spoke = Date.now();
    slow.end(hello({ extensions: [serverName('a.example')] }));
    await Promise.all([closed(slow), once(slow.resume(), 'end')]);
    const [{ time, durationMs, lasting }] = (await take(1)) as [ConnectionRecord];
    t.notOk(lasting);
    t.ok(time <= accepted + 1, `${time} <= ${accepted}`);
    t.ok(durationMs > spoke - accepted - 2, `${durationMs} > ${spoke - accepted}`);
  });

  t.test('a relay by lasting verdict with nothing to do', async (t) => {
    const { take } = await recorded(t, {
      decide: () => ({ action: 'relay', ttl: 60_000 }),
      idleTimeout: 100,
    });
    await visit();
    await take(1);
    const idle = connect(7000, FAR).on('error', () => {});
    t.match(await take(1), [{ lasting: true, outcome: 'idle' }]);
    idle.destroy();
  });

  t.test('a relay by lasting verdict that its client resets', async (t) => {
    const { take } = await recorded(t, { decide: () => ({ action: 'relay', ttl: 60_000 }) });
    await visit();
    await take(1);
    const resets = connect(7000, FAR).on('error', () => {});
    resets.write('words');
    await once(resets, 'data');
    resets.resetAndDestroy();
    t.match(await take(1), [{ lasting: true, outcome: 'reset by client' }]);
  });

  t.test('a loop', async (t) => {
    const { take } = await recorded(t, { mark: 0 });
    await visit();
    const records = await take(2);
    t.match(
      records.find(({ verdict }) => verdict === undefined),
      { outcome: 'ERR_INTERCEPT_LOOP', destination: { address: FAR } },
    );
  });

  t.test('nobody wants them; somebody does; nobody any more', async (t) => {
    const server = await start({ mark: 7, decide: () => ({ action: 'relay', ttl: 60_000 }) });
    await visit();
    await visit();
    const seen: ConnectionRecord[] = [];
    const listener = (records: ConnectionRecord[]): void => void seen.push(...records);
    server.on('records', listener);
    server.on('records', () => {});
    await visit();
    await until(() => seen.length > 0);
    t.match(seen, [{ lasting: true, outcome: 'end' }]);
    t.equal(seen.length, 1);
    server.removeAllListeners('records');
    await visit();
    server.on('records', listener);
    // Whoever closes is told of the last ones first.
    const open = connect(7000, FAR).on('error', () => {});
    await until(() => server.stats.open === 1);
    let atClose = 0;
    server.once('close', () => (atClose = seen.length));
    server.destroy();
    await Promise.all([once(server, 'close'), closed(open)]);
    t.equal(atClose, 2, 'not of the one that came while nobody listened');
    t.match(seen[1], { outcome: 'aborted', lasting: true });
  });

  t.test('a program that is busy elsewhere loses records, and knows how many', async (t) => {
    const { server, take } = await recorded(t, { maxRatePerClient: 1 });
    const count = 5000;
    // Waits for the child: the event loop stands still.
    sh(`python3 -c '
import socket
for _ in range(${count}):
    s = socket.socket()
    try: s.connect(("127.0.0.1", 15001))
    except OSError: pass
    s.close()'`);
    // And until the thread has come to all of them.
    const clock = new Int32Array(new SharedArrayBuffer(4));
    for (let i = 0; i < 3000 && server.stats.accepted < count; i++) Atomics.wait(clock, 0, 0, 10);
    let told = 0;
    server.on('records', (records) => {
      told += records.filter(({ outcome }) => outcome === 'ERR_MAX_RATE_PER_CLIENT').length;
    });
    const all = () => server.stats.refused['ERR_MAX_RATE_PER_CLIENT'];
    await until(() => told + server.stats.recordsDropped === all());
    t.equal(told + server.stats.recordsDropped, all());
    t.ok(server.stats.recordsDropped > 0);
    t.ok(told >= 4096, 'as many as there is room for');
    t.ok((await take(told)).every(({ destination }) => destination === undefined || destination.port > 0));
  });
});
