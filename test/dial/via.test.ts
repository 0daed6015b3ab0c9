// connectVia(): through proxies that work, and through those that do not.
import { once } from 'node:events';
import { BlockList, connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import t from 'tap';
import {
  connectVia,
  relay,
  type ConnectViaOptions,
  type ProxiedDestination,
  type ProxyError,
  type ProxyServer,
} from '../../lib/index.ts';
import { closed, failure, leakFree } from '../fixtures/dialling.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { echoServer, scriptedProxy, standInProxy, type ScriptTurn } from '../fixtures/proxies.ts';

const NAMES = { 'echo.test': '127.0.0.1' };
const DESTINATION = { address: '192.0.2.1', port: 443 };
const OK = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const socksAt = (port: number): ProxyServer => ({ protocol: 'socks5', address: '127.0.0.1', port });

await inNamespace(t, import.meta.url, () => {
  for (const protocol of ['socks5', 'http'] as const) {
    t.test(`${protocol}: addresses and names, with and without a password, both families`, async (t) => {
      const v4 = await echoServer(t, '127.0.0.1');
      const v6 = await echoServer(t, '::1');
      const destinations: [ProxiedDestination, string][] = [
        [{ address: '127.0.0.1', port: v4.port }, `127.0.0.1:${v4.port}`],
        [{ address: '::ffff:127.0.0.1', port: v4.port }, `127.0.0.1:${v4.port}`],
        [
          { address: '::1', port: v6.port },
          `${protocol === 'http' ? '::1' : '0000:0000:0000:0000:0000:0000:0000:0001'}:${v6.port}`,
        ],
        [{ name: 'Echo.test', port: v4.port }, `echo.test:${v4.port}`],
      ];
      for (const credentials of [{}, { username: 'me' }, { username: 'mé', password: 'geheim' }]) {
        for (const host of ['127.0.0.1', '::1']) {
          const proxy = await standInProxy(t, protocol, { ...credentials, names: NAMES }, host);
          const { asked, ...address } = proxy;
          await leakFree(t, async () => {
            for (const [destination, told] of destinations) {
              const socket = connectVia({ ...address, ...credentials }, destination, { allowHalfOpen: true });
              t.equal(socket.connecting, true);
              socket.write('early ');
              await once(socket, 'connect');
              t.equal(socket.connecting, false);
              t.equal(socket.remoteAddress, host, 'the connection is one to the proxy');
              socket.end('late');
              t.equal(String(await buffer(socket)), 'early late', 'half-close');
              t.equal(asked.at(-1), told);
              await closed(socket);
            }
          });
        }
      }
    });

    t.test(`${protocol}: what the proxy declines`, async (t) => {
      const guarded = await standInProxy(t, protocol, { username: 'me', password: 'right' });
      const { asked, ...proxy } = guarded;
      const status = protocol === 'http' ? [407, 407, 504] : [255, 1, 4];
      await leakFree(t, async () => {
        const unasked = await failure(connectVia(proxy, DESTINATION));
        t.match(unasked, { code: 'ERR_PROXY_AUTH', proxyStatus: status[0], hint: String });
        const wrong = { ...proxy, username: 'me', password: 'wrong' };
        t.match(await failure(connectVia(wrong, DESTINATION)), {
          code: 'ERR_PROXY_AUTH',
          proxyStatus: status[1],
        });
        const right = { ...proxy, username: 'me', password: 'right' };
        const refused = (await failure(
          connectVia(right, { address: '127.0.0.1', port: 1 }),
        )) as unknown as ProxyError;
        t.match(refused, { code: 'ERR_PROXY_REFUSED', proxyStatus: status[2] });
      });
      t.same(asked, ['127.0.0.1:1']);
    });

    t.test(`${protocol}: bytes that come along with the proxy’s answer`, async (t) => {
      const { port } = await echoServer(t, '127.0.0.1', 'greeting ');
      const { asked: _, ...proxy } = await standInProxy(t, protocol, { together: true });
      const destination = { address: '127.0.0.1', port };
      await leakFree(t, async () => {
        const flowing = connectVia(proxy, destination);
        const events: string[] = [];
        for (const event of ['connect', 'ready', 'data'] as const)
          flowing.on(event, () => events.push(event));
        flowing.end('x');
        await once(flowing, 'close');
        t.same(events.slice(0, 3), ['connect', 'ready', 'data'], 'as of net.connect');

        const paused = connectVia(proxy, destination, { allowHalfOpen: true });
        await once(paused, 'connect');
        t.equal(paused.readableLength, 9);
        paused.end('and answer');
        t.equal(String(await buffer(paused)), 'greeting and answer');
        await closed(paused);

        for (const engine of ['native', 'pipe'] as const) {
          const front = createServer({ allowHalfOpen: true }, (client) => {
            relay(client, connectVia(proxy, destination), { engine });
          }).listen(0, '127.0.0.1');
          await once(front, 'listening');
          const client = connect((front.address() as AddressInfo).port, '127.0.0.1');
          client.end('question');
          t.equal(String(await buffer(client)), 'greeting question', `relay, ${engine}`);
          front.close();
          await once(front, 'close');
        }
      });
    });
  }

  t.test('proxies that break off, at every stage', async (t) => {
    const stages: ScriptTurn[][] = [
      [],
      [[3, bytes(5)]],
      [[3, bytes(5, 0)]],
      [
        [3, bytes(5, 0)],
        [10, undefined],
      ],
      [
        [3, bytes(5, 0)],
        [10, bytes(5, 0, 0, 1, 0)],
      ],
      [
        [3, bytes(5, 0)],
        [10, bytes(...OK.slice(0, 9))],
      ],
    ];
    for (const [i, stage] of stages.entries()) {
      const fin = await scriptedProxy(t, [...stage, [0, 'FIN']]);
      const rst = await scriptedProxy(t, [...stage, [0, 'RST']]);
      const silent = await scriptedProxy(t, stage);
      await leakFree(t, async () => {
        t.match(
          await failure(connectVia(socksAt(fin), DESTINATION)),
          { code: 'ERR_PROXY_PROTOCOL', message: /ends before/ },
          `FIN, ${i}`,
        );
        t.match(
          await failure(connectVia(socksAt(rst), DESTINATION)),
          { code: /^(ECONNRESET|EPIPE|ERR_PROXY_PROTOCOL)$/ },
          `RST, ${i}`,
        );
        const late = connectVia(socksAt(silent), DESTINATION, { handshakeTimeout: 20 });
        t.match(await failure(late), { code: 'ERR_PROXY_TIMEOUT', message: /20 ms/ }, `silence, ${i}`);
        const gone = connectVia(socksAt(silent), DESTINATION, { handshakeTimeout: 0 });
        setTimeout(() => gone.destroy(), 5);
        await once(gone, 'close');
        const controller = new AbortController();
        const aborted = connectVia(socksAt(silent), DESTINATION, { signal: controller.signal });
        setTimeout(() => controller.abort(), 5);
        t.match(await failure(aborted), { name: 'AbortError' }, `aborted, ${i}`);
      });
    }
  });

  t.test('answers in pieces of a byte, garbage, too much', async (t) => {
    const http = { ...socksAt(0), protocol: 'http' as const };
    const script: ScriptTurn[] = [
      [3, bytes(5, 0)],
      [10, bytes(...OK, 0x68, 0x69)],
    ];
    const piecewise = await scriptedProxy(t, script, 1);
    const endless = await scriptedProxy(t, [[1, `HTTP/1.1 200 OK\r\nA: ${'a'.repeat(100_000)}`]]);
    const ssh = await scriptedProxy(t, [[0, 'SSH-2.0-OpenSSH\r\n']]);
    const eager = await scriptedProxy(t, [[3, bytes(5, 0, ...OK)]]);
    await leakFree(t, async () => {
      const socket = connectVia(socksAt(piecewise), DESTINATION);
      let text = '';
      while (text !== 'hi') text += String(((await once(socket, 'data')) as [Buffer])[0]);
      await closed(socket);
      for (const [port, protocol] of [
        [endless, 'http'],
        [endless, 'socks5'],
        [ssh, 'http'],
        [eager, 'socks5'],
      ] as const) {
        const error = await failure(connectVia({ ...http, port, protocol }, DESTINATION));
        t.match(error, { code: 'ERR_PROXY_PROTOCOL', hint: String });
      }
    });
  });

  t.test('the way to the proxy', async (t) => {
    const { port } = await echoServer(t, '127.0.0.1');
    const { asked: _, ...proxy } = await standInProxy(t, 'socks5');
    const destination = { address: '127.0.0.1', port };
    await leakFree(t, async () => {
      const named = connectVia({ ...proxy, address: 'localhost' }, destination, { timeout: 60_000 });
      await once(named, 'connect');
      t.equal(named.timeout, 60_000);
      await closed(named);
      const from = connectVia(proxy, destination, { source: { address: '127.0.0.6' } });
      await once(from, 'connect');
      t.equal(from.localAddress, '127.0.0.6');
      await closed(from);
      const nobody = await failure(connectVia({ ...proxy, port: 1 }, destination));
      t.match(nobody, { code: 'ECONNREFUSED', syscall: 'connect', address: '127.0.0.1', port: 1 });
      const nowhere = await failure(connectVia({ ...proxy, address: 'no-such-host.invalid' }, destination));
      t.equal(nowhere.syscall, 'getaddrinfo');
      const signal = AbortSignal.abort();
      t.match(await failure(connectVia(proxy, destination, { signal })), { name: 'AbortError' });
      const atOnce = connectVia(proxy, destination);
      atOnce.destroy();
      await once(atOnce, 'close');
    });
  });

  t.test('the egress policy judges the destination, not the proxy', async (t) => {
    const { port } = await echoServer(t, '127.0.0.1');
    const { asked, ...proxy } = await standInProxy(t, 'http', {}, '::1');
    const allow = new BlockList();
    allow.addAddress('127.0.0.1');
    await leakFree(t, async () => {
      const socket = connectVia(proxy, { address: '127.0.0.1', port }, { egress: { allow } });
      await once(socket, 'connect');
      await closed(socket);
      const denied = await failure(connectVia(proxy, DESTINATION, { egress: { allow } }));
      t.equal(denied.code, 'ERR_EGRESS_DENIED');
      t.throws(() => connectVia(proxy, { name: 'echo.test', port }, { egress: {} }), {
        code: 'ERR_INVALID_ARG_VALUE',
      });
    });
    t.same(asked, [`127.0.0.1:${port}`]);
  });

  t.test('argument errors are thrown, and leave nothing open', async (t) => {
    const proxy = socksAt(1080);
    const bad: [unknown, unknown, unknown, string][] = [
      [undefined, DESTINATION, {}, 'ERR_INVALID_ARG_TYPE'],
      [proxy, undefined, {}, 'ERR_INVALID_ARG_TYPE'],
      [proxy, DESTINATION, null, 'ERR_INVALID_ARG_TYPE'],
      [proxy, DESTINATION, { mark: -1 }, 'ERR_OUT_OF_RANGE'],
      [proxy, DESTINATION, { handshakeTimeout: '1' }, 'ERR_INVALID_ARG_TYPE'],
      [proxy, DESTINATION, { signal: 7 }, 'ERR_INVALID_ARG_TYPE'],
      [proxy, DESTINATION, { timeout: -1 }, 'ERR_OUT_OF_RANGE'],
      [proxy, DESTINATION, { source: { address: '::1' } }, 'ERR_INVALID_ARG_VALUE'],
    ];
    await leakFree(t, async () => {
      for (const [a, b, c, code] of bad) {
        t.throws(() => connectVia(a as ProxyServer, b as ProxiedDestination, c as ConnectViaOptions), {
          code,
        });
      }
    });
  });

  t.test('runtimes whose sockets take no descriptor', async (t) => {
    const { versions } = process;
    t.teardown(() => Object.defineProperty(process, 'versions', { value: versions }));
    for (const runtime of ['bun', 'deno']) {
      Object.defineProperty(process, 'versions', {
        value: { ...versions, [runtime]: '1' },
        configurable: true,
      });
      t.throws(() => connectVia(socksAt(1080), DESTINATION), { code: 'ERR_UNSUPPORTED_RUNTIME' });
    }
    Object.defineProperty(process, 'versions', { value: versions, configurable: true });
    const port = await scriptedProxy(t, [
      [3, bytes(5, 0)],
      [10, bytes(...OK)],
    ]);
    await leakFree(t, async () => {
      const socket = connectVia(socksAt(port), DESTINATION) as Socket & { _handle: { open?: unknown } };
      Object.defineProperty(socket._handle, 'open', { value: undefined });
      t.match(await failure(socket), { code: 'ERR_UNSUPPORTED_RUNTIME' });
    });
  });
});
