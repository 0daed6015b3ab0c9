// createRelayServer(): verdicts that lead by way of another proxy, or begin with a PROXY protocol header.
import { once } from 'node:events';
import { BlockList, createServer as createNetServer } from 'node:net';
import t from 'tap';
import { takeHeader } from '../../lib/accept/proxy-protocol.ts';
import {
  type ConnectionRecord,
  createServer,
  Namespace,
  type ProxyHeader,
  type ProxyServer,
  type RelayServerOptions,
  type RoutedVerdict,
} from '../../lib/index.ts';
import { headerOf } from '../../lib/relay/routed.ts';
import { readDecision } from '../../lib/relay/decision.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { standInProxy } from '../fixtures/proxies.ts';
import { v2Tcp } from '../fixtures/proxy-headers.ts';
import { relayNetwork, start, talk } from '../fixtures/relay-network.ts';
import { outcome } from '../fixtures/relay-world.ts';

const PROXY: ProxyServer = { protocol: 'socks5', address: '127.0.0.1', port: 1080 };
const NAMED = { name: 'echo.test', port: 7002 };

t.test('what can be read as such a verdict', (t) => {
  for (const good of [
    { via: PROXY },
    { via: PROXY, to: NAMED },
    { via: PROXY, to: { address: '192.0.2.2' }, proxyProtocol: 1 },
    { proxyProtocol: 2 },
    { proxyProtocol: 2, ttl: 5 },
    { to: [NAMED, { address: '192.0.2.2' }], via: PROXY },
  ] as const)
    t.match(readDecision({ action: 'relay', ...good }), { action: 'relay', ttl: 0, ...good });
  for (const [bad, code] of [
    [{ via: 'socks5://127.0.0.1' }, 'ERR_INVALID_ARG_TYPE'],
    [{ via: { ...PROXY, port: 0 } }, 'ERR_OUT_OF_RANGE'],
    [{ via: PROXY, to: { name: '192.0.2.2', port: 1 } }, 'ERR_INVALID_ARG_VALUE'],
    [{ via: PROXY, to: { name: 'a.test' } }, 'ERR_INVALID_ARG_TYPE'],
    [{ to: NAMED }, 'ERR_INVALID_ARG_TYPE'],
    [{ proxyProtocol: 3 }, 'ERR_OUT_OF_RANGE'],
    [{ proxyProtocol: 2, ttl: -5 }, 'ERR_OUT_OF_RANGE'],
    [{ action: 'reset', via: PROXY }, 'ERR_INVALID_ARG_VALUE'],
  ] as const)
    t.throws(() => readDecision({ action: 'relay', ...bad }), { code }, JSON.stringify(bad));
  t.end();
});

t.test('what the next hop is told', (t) => {
  const unknown = { kind: 'unknown', cause: new Error('nobody knows') } as const;
  t.same(headerOf({ destination: unknown, first: undefined }, { proxyProtocol: 1, to: NAMED }), {
    version: 1,
    destination: undefined,
    authority: 'echo.test',
  });
  t.end();
});

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);
  const from = new BlockList();
  from.addSubnet('127.0.0.0', 8);
  from.addAddress('192.0.2.1');

  /** What a client of 198.51.100.7 gets when the verdict is this. */
  async function routed(verdict: Omit<RoutedVerdict, 'action'>, options: Partial<RelayServerOptions> = {}) {
    const before = openSockets();
    const server = await start({ mark: 7, ...options, decide: () => ({ action: 'relay', ...verdict }) });
    const relayed = once(server, 'relay');
    const got = await talk('198.51.100.7', 7001, 'GET / HTTP/1.1\r\nHost: words\r\n\r\n');
    const [joined] = await relayed;
    const how = await outcome(joined);
    const { bytesToUpstream, bytesToClient } = joined;
    const { refused, failed } = server.stats;
    server.close();
    await once(server, 'close');
    const left = await socketsLeft(before);
    return { ...got, outcome: how, bytesToUpstream, bytesToClient, refused, failed, left };
  }
  const WORDS = 'GET / HTTP/1.1\r\nHost: words\r\n\r\n';
  const echoed = {
    data: WORDS,
    end: 'fin',
    outcome: { reason: 'end' },
    bytesToUpstream: WORDS.length,
    bytesToClient: WORDS.length,
    refused: {},
    failed: 0,
    left: [],
  };

  t.test('via SOCKS5 and HTTP, to addresses and names', async (t) => {
    for (const protocol of ['socks5', 'http'] as const) {
      const names = { 'echo.test': '192.0.2.2' };
      const proxy = await standInProxy(t, protocol, { username: 'me', names, mark: 7 });
      const { asked, ...address } = proxy;
      const via = { ...address, username: 'me' };
      const to = { address: '192.0.2.2', port: 7002 };
      t.same(await routed({ via, to }), echoed);
      t.same(await routed({ via, to }, { mark: undefined as never }), echoed, 'without a mark');
      t.same(await routed({ via, to: NAMED }), echoed);
      t.same(asked.splice(0), ['192.0.2.2:7002', '192.0.2.2:7002', 'echo.test:7002']);
      t.match(await routed({ via }), {
        end: 'ECONNRESET',
        outcome: { reason: 'error', side: 'upstream', error: { code: 'ERR_PROXY_REFUSED' } },
        failed: 1,
        left: [],
      });
      t.same(asked, ['198.51.100.7:7001'], 'where the client has dialled');
      t.match(await routed({ via: address }), { outcome: { error: { code: 'ERR_PROXY_AUTH' } }, left: [] });
    }
    t.match(await routed({ via: { ...PROXY, port: 1 } }), {
      end: 'ECONNRESET',
      outcome: { error: { code: 'ECONNREFUSED', address: '127.0.0.1', port: 1 } },
    });
  });

  t.test('a PROXY protocol header ahead of the bytes', async (t) => {
    sh('ip addr add 192.0.2.1/32 dev lo');
    const headers: ProxyHeader[] = [];
    // Not an intercepting one: to dial such a one of this very program is refused as a loop.
    const behind = createNetServer({ allowHalfOpen: true }, (socket) => {
      takeHeader(socket, 0, (header) => {
        headers.push(header as ProxyHeader);
        socket.on('error', () => {}).pipe(socket);
      });
    });
    behind.listen(7003, '127.0.0.1');
    await once(behind, 'listening');
    t.teardown(() => void behind.close());
    const to = { address: '127.0.0.1', port: 7003 };
    const proxy = await standInProxy(t, 'socks5');
    const { asked: _, ...via } = proxy;
    for (const verdict of [
      { to, proxyProtocol: 1 },
      { to, proxyProtocol: 2 },
      { to, proxyProtocol: 2, via },
    ] as const) {
      t.same(await routed(verdict), echoed, JSON.stringify(verdict));
      t.match(headers.at(-1), {
        version: verdict.proxyProtocol,
        client: { address: '192.0.2.1' },
        destination: { address: '198.51.100.7', port: 7001 },
      });
      t.equal(headers.at(-1)!.uniqueId?.length, verdict.proxyProtocol === 2 ? 16 : undefined);
    }
    t.same(await routed({ to, proxyProtocol: 2 }, { inspect: { ports: [7001] } }), echoed);
    t.equal(headers.at(-1)!.authority, 'words', 'the name in the first bytes');
    for (const preserveSource of [true, 'port'] as const) {
      const options = { preserveSource, portFallback: true };
      t.same(await routed({ to, proxyProtocol: 2 }, options), echoed, `from the client’s ${preserveSource}`);
    }
    t.same(await routed({ to, proxyProtocol: 2 }, { preserveSource: true }), echoed);
    t.match(await routed({ proxyProtocol: 2, to: { ...to, port: 7004 } }), {
      end: 'ECONNRESET',
      outcome: { error: { code: 'ECONNREFUSED' } },
    });
  });

  t.test('lasting: the thread goes the same way by itself', async (t) => {
    const before = openSockets();
    const names = { '198.51.100.7': '192.0.2.2' };
    const undo: (() => void)[] = [];
    const until = { teardown: (step: () => void) => void undo.push(step) } as unknown as typeof t;
    const proxies = {
      socks5: await standInProxy(until, 'socks5', { username: 'me', names, mark: 7 }),
      http: await standInProxy(until, 'http', { mark: 7 }),
    };
    const { asked: _, ...socks5 } = proxies.socks5;
    const { asked: __, ...http } = proxies.http;
    const far = { address: '192.0.2.2', port: 7002 };
    const dead = { address: '192.0.2.2', port: 7009 };
    for (const [verdict, port, data, outcome] of [
      [{ via: { ...socks5, username: 'me' } }, 7000, 'words', 'end'],
      [{ via: http, to: far }, 7001, 'words', 'end'],
      [
        { to: [dead, far], proxyProtocol: 1 },
        7001,
        /^PROXY TCP4 192.0.2.1 198.51.100.7 \d+ 7001\r\nwords/,
        'end',
      ],
      [{ to: [dead, { name: 'far.test', port: 7002 }] }, 7001, 'words', 'end'],
      [{ via: socks5 }, 7001, '', 'ERR_PROXY_AUTH'],
      [{ via: { ...socks5, port: 1 } }, 7001, '', 'ECONNREFUSED'],
    ] as [Omit<RoutedVerdict, 'action'>, number, string | RegExp, string][]) {
      let decided = 0;
      const server = await start({
        mark: 7,
        resolve: { resolver: async () => [{ address: '192.0.2.2' }] },
        decide: () => {
          decided++;
          return { action: 'relay', ttl: 60_000, ...verdict };
        },
      });
      const records: ConnectionRecord[] = [];
      server.on('records', (some) => records.push(...some));
      for (let i = 0; i < 3; i++) t.match((await talk('198.51.100.7', port, 'words')).data, data);
      const failed = outcome === 'end' ? 0 : 3;
      const what = JSON.stringify(verdict);
      t.match(server.stats, { accepted: 3, undecided: 1, relayed: 3, failed }, what);
      t.equal(decided, 1, 'asked once');
      server.revoke();
      await talk('198.51.100.7', port, 'words');
      t.equal(decided, 2, 'and again when it is taken back');
      server.close();
      await once(server, 'close');
      t.same(
        records.map((one) => one.outcome),
        [outcome, outcome, outcome, outcome],
        what,
      );
      t.equal(records.filter(({ lasting }) => lasting).length, 2);
    }
    // Another place on this host is asked about each time: it may be an interceptor's.
    const server = await start({
      mark: 7,
      decide: () => ({ action: 'relay', ttl: 60_000, to: { address: '127.0.0.1', port: 7009 } }),
    });
    for (let i = 0; i < 2; i++) await talk('198.51.100.7', 7001, 'words');
    t.match(server.stats, { undecided: 2 });
    server.close();
    await once(server, 'close');
    for (const step of undo) step();
    t.same(await socketsLeft(before), []);
  });

  t.test('lasting, for connections of a proxy in front', async (t) => {
    const client = { address: '203.0.113.9', port: 40000 };
    for (const [to, data, preserveSource] of [
      [undefined, 'words', false],
      [
        { address: '192.0.2.2', port: 7002 },
        /^PROXY TCP4 203\.0\.113\.9 192\.0\.2\.2 40000 7000\r\nwords/,
        false,
      ],
    ] as const) {
      const server = await start({
        mark: 7,
        preserveSource,
        proxyProtocol: { from },
        decide: () => ({ action: 'relay', ttl: 60_000, ...(to && { to, proxyProtocol: 1 }) }),
      });
      const records: ConnectionRecord[] = [];
      server.on('records', (some) => records.push(...some));
      const header = v2Tcp(client, { address: '192.0.2.2', port: 7000 });
      for (let i = 0; i < 3; i++)
        t.match((await talk('127.0.0.1', 15001, Buffer.concat([header, Buffer.from('words')]))).data, data);
      t.match(server.stats, { accepted: 3, undecided: 1, relayed: 3, proxy: 3, redirect: 0 });
      server.close();
      await once(server, 'close');
      const one = {
        kind: 'proxy',
        client,
        destination: { address: '192.0.2.2', port: 7000 },
        outcome: 'end',
      };
      t.match(records, [one, one, one]);
    }
  });

  t.test('from another namespace', async (t) => {
    const namespace = Namespace.of('/run/netns/far');
    t.teardown(() => namespace.close());
    // An address of that namespace's own, which answers in there alone.
    const to = { address: '127.0.0.1', port: 7002 };
    const { data, end, left } = await routed(
      { to, proxyProtocol: 1 },
      { namespace, mark: undefined as never },
    );
    t.match(data, /^PROXY TCP4 192\.0\.2\.1 198\.51\.100\.7 \d+ 7001\r\nGET /);
    t.same([end, left], ['fin', []]);
  });

  t.test('what is refused', async (t) => {
    const egress = { allow: from };
    const refused = async (verdict: Omit<RoutedVerdict, 'action'>, options: Partial<RelayServerOptions>) => {
      const { outcome: how, end } = await routed(verdict, options);
      t.equal(end, 'ECONNRESET');
      return (how as { error: { code: string } }).error.code;
    };
    t.equal(await refused({ via: PROXY }, { egress }), 'ERR_EGRESS_DENIED');
    t.equal(await refused({ via: PROXY, to: NAMED }, { egress }), 'ERR_EGRESS_DENIED');
    t.equal(await refused({ via: PROXY }, { preserveSource: true }), 'ERR_INVALID_ARG_VALUE');
  });

  t.test('destroyed while the proxy thinks', async (t) => {
    const before = openSockets();
    const silent = createServer((socket) => socket.on('error', () => {}).resume());
    silent.listen(7005, '127.0.0.1');
    await once(silent, 'listening');
    const via = { ...PROXY, port: 7005 };
    const server = await start({ mark: 7, connectTimeout: 50, decide: () => ({ action: 'relay', via }) });
    const slow = once(server, 'relay');
    t.match(await talk('198.51.100.7', 7001, 'words'), { end: 'ECONNRESET' });
    const [late] = await slow;
    t.match(await outcome(late), { reason: 'error', side: 'upstream', error: { code: 'ERR_PROXY_TIMEOUT' } });
    const relayed = once(server, 'relay');
    const got = talk('198.51.100.7', 7001, 'words');
    const [joined] = await relayed;
    joined.unref().ref();
    server.destroy();
    await once(server, 'close');
    t.match(joined.outcome, { reason: 'aborted' });
    await got;
    silent.close();
    await once(silent, 'close');
    t.same(await socketsLeft(before), []);
  });
});
