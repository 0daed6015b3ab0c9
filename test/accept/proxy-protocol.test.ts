// Servers behind a proxy that sends PROXY protocol headers: what is taken off, for whom, and what is refused.
import { channel } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, BlockList, connect, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { connect as tlsConnect, createServer as createTlsServer } from 'node:tls';
import t, { type Test } from 'tap';
import {
  clientOf,
  connectOriginal,
  createServer,
  intercept,
  originalDst,
  processOf,
  proxyHeader,
  relay,
  type InterceptedSocket,
  type InterceptOptions,
} from '../../lib/index.ts';
import { makeCertificate } from '../fixtures/certificate.ts';
import { leakFree } from '../fixtures/dialling.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { tlv, v2, v2Tcp } from '../fixtures/proxy-headers.ts';
import { echoServer } from '../fixtures/proxies.ts';

const CLIENT = { address: '192.0.2.1', port: 40000 };
const DESTINATION = { address: '198.51.100.7', port: 443 };
const V1 = 'PROXY TCP4 192.0.2.1 198.51.100.7 40000 443\r\n';
const V2 = v2Tcp(CLIENT, DESTINATION, tlv(2, 'example.com'));

const from = new BlockList();
from.addAddress('127.0.0.1');
from.addAddress('::1', 'ipv6');

async function listen(
  t: Test,
  options: InterceptOptions & { allowHalfOpen?: boolean; pauseOnConnect?: boolean } = {},
  onClient: (socket: InterceptedSocket) => void = () => {},
) {
  const server = createServer({ proxyProtocol: { from }, allowHalfOpen: true, ...options }, (socket) => {
    socket.on('error', () => {});
    onClient(socket as InterceptedSocket);
  });
  server.listen(0);
  await once(server, 'listening');
  t.teardown(() => void server.close());
  return { server, port: (server.address() as AddressInfo).port };
}

/** A server that says where the connection was going and who had dialled, then echoes. */
function answer(socket: InterceptedSocket): void {
  const dst = socket.originalDst as { kind: string; address?: string; port?: number };
  socket.write(`${dst.kind} ${dst.address}:${dst.port} ${clientOf(socket)!.address}|`);
  socket.pipe(socket);
}

/** Sends pieces, ends, and gives what comes; `RST` when that is what comes. */
async function talk(port: number, pieces: (string | Buffer)[], host = '127.0.0.1'): Promise<string> {
  const socket = connect({ port, host, allowHalfOpen: true, noDelay: true });
  await once(socket, 'connect');
  for (const piece of pieces) {
    socket.write(piece);
    if (pieces.length > 1) await new Promise((resolve) => setTimeout(resolve, 2));
  }
  socket.end();
  try {
    return await text(socket);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === 'ECONNRESET' || code === 'EPIPE' ? 'RST' : String(code);
  }
}

await inNamespace(t, import.meta.url, () => {
  t.test('headers of both versions, in any pieces, and not a byte more', async (t) => {
    const { server, port } = await listen(t, {}, answer);
    const expected = 'proxy 198.51.100.7:443 192.0.2.1|after';
    await leakFree(t, async () => {
      for (const header of [Buffer.from(V1), V2]) {
        t.equal(await talk(port, [Buffer.concat([header, Buffer.from('after')])]), expected, 'at once');
        t.equal(await talk(port, [header, 'after']), expected, 'one after the other');
        const bytewise = [...header].map((byte) => Buffer.from([byte]));
        t.equal(await talk(port, [...bytewise, 'a', 'fter']), expected, 'byte by byte');
        t.equal(await talk(port, [header]), 'proxy 198.51.100.7:443 192.0.2.1|', 'and nothing else');
      }
      const six = v2Tcp({ address: '2001:db8::1', port: 1 }, { address: '2001:db8::7', port: 80 });
      t.equal(
        await talk(port, [Buffer.concat([six, Buffer.from('x')])], '::1'),
        'proxy 2001:db8::7:80 2001:db8::1|x',
      );
      const twice = 'PROXY TCP4 192.0.2.9 192.0.2.9 1 1\r\n';
      t.equal(await talk(port, [V1 + twice]), `proxy 198.51.100.7:443 192.0.2.1|${twice}`, 'one header only');
    });
    t.match(server.interceptStats, { proxy: 10, direct: 0, reset: 0, refused: {} });
  });

  t.test('LOCAL and UNKNOWN: the connection as it is', async (t) => {
    const { port } = await listen(t, {}, answer);
    const direct = `direct 127.0.0.1:${port} 127.0.0.1|x`;
    t.equal(await talk(port, ['PROXY UNKNOWN\r\nx']), direct);
    t.equal(await talk(port, [Buffer.concat([v2(0x20, 0, Buffer.alloc(3)), Buffer.from('x')])]), direct);
    const refusing = await listen(t, { direct: 'reset' });
    t.equal(await talk(refusing.port, ['PROXY UNKNOWN\r\nx']), 'RST', 'as what it is');
    t.match(refusing.server.interceptStats, { direct: 1, reset: 1 });
  });

  t.test('who must send a header, and who may not', async (t) => {
    sh('ip addr add 127.0.0.9/8 dev lo');
    const { server, port } = await listen(t, {}, answer);
    const other = connect({ port, host: '127.0.0.1', localAddress: '127.0.0.9', allowHalfOpen: true });
    other.end(V1);
    t.equal(await text(other), `direct 127.0.0.1:${port} 127.0.0.9|${V1}`, 'a stranger’s is what it says');
    const told: string[] = [];
    const listener = (message: unknown): void =>
      void told.push((message as { error: { code: string } }).error.code);
    channel('original-dst:error').subscribe(listener);
    t.teardown(() => channel('original-dst:error').unsubscribe(listener));
    await leakFree(t, async () => {
      for (const bad of [
        ['GET / HTTP/1.1\r\n\r\n'],
        ['\x16\x03\x01'],
        [V1.slice(0, 20)],
        [V2.subarray(0, 20)],
        [],
        [V1.replace('443', '70000')],
        [v2(0x21, 0x31, Buffer.alloc(216))],
        [v2(0x21, 0x12, Buffer.alloc(12))],
        [v2(0x21, 0x11, Buffer.alloc(20000))],
      ]) {
        t.equal(await talk(port, bad), 'RST', JSON.stringify(String(bad[0] ?? '')).slice(0, 50));
      }
    });
    t.match(server.interceptStats, { proxy: 0, direct: 1, reset: 9, refused: { ERR_PROXY_HEADER: 9 } });
    t.same(
      told,
      Array.from({ length: 9 }, () => 'ERR_PROXY_HEADER'),
    );
  });

  t.test('slow, gone', async (t) => {
    const { server, port } = await listen(t, { proxyProtocol: { from, timeout: 30 } });
    await leakFree(t, async () => {
      const slow = connect(port, '127.0.0.1');
      slow.write(V1.slice(0, 10));
      const [error] = (await once(slow, 'error').catch((cause: Error) => [cause])) as [NodeJS.ErrnoException];
      t.equal(error.code, 'ECONNRESET');
      const gone = connect(port, '127.0.0.1');
      await once(gone, 'connect');
      gone.write('PROXY ');
      gone.resetAndDestroy();
      while (server.interceptStats.reset < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    });
    t.same(server.interceptStats.refused, { ERR_PROXY_HEADER: 2 });
    // Told of each accepted socket behind the server's own handlers.
    const accepted = channel('net.server.socket');
    const destroy = (message: unknown): void => {
      const { socket } = message as { socket: Socket };
      socket.once('readable', () => socket.destroy(new Error('gone in that tick')));
    };
    accepted.subscribe(destroy);
    await talk(port, [V1]);
    accepted.unsubscribe(destroy);
    t.match(server.interceptStats, { proxy: 0, reset: 2 });
    const forever = await listen(t, { proxyProtocol: { from, timeout: 0 } }, answer);
    t.equal(await talk(forever.port, [V1.slice(0, 10), V1.slice(10)]), 'proxy 198.51.100.7:443 192.0.2.1|');
  });

  t.test('reset before it was accepted: whether that was a proxy is not known', async (t) => {
    let seen = 0;
    const { server, port } = await listen(t, {}, () => seen++);
    // Its end is waited for without the event loop: until then nothing is accepted.
    const script = `require('node:net').connect(${port}, '127.0.0.1', function () {
      this.write(${JSON.stringify(V1)}, () => this.resetAndDestroy());
    })`;
    sh(`'${process.execPath}' -e "${script.replaceAll('"', '\\"')}"`);
    while (seen + server.interceptStats.reset === 0) await new Promise(setImmediate);
    t.match(server.interceptStats, { reset: 1, refused: { ERR_PROXY_HEADER: 1 } });
    t.equal(seen, 0);
  });

  t.test('the socket is as it was: flowing by itself, paused where it was', async (t) => {
    const seen: InterceptedSocket[] = [];
    for (const pauseOnConnect of [false, true]) {
      const { port } = await listen(t, { pauseOnConnect }, (socket) => {
        t.equal(socket.isPaused(), pauseOnConnect);
        t.equal(socket.listenerCount('readable'), 0);
        if (!pauseOnConnect) socket.on('data', (data: Buffer) => socket.end(data));
        else setTimeout(() => socket.on('data', (data: Buffer) => socket.end(data)).resume(), 5);
        seen.push(socket);
      });
      t.equal(await talk(port, [Buffer.concat([V2, Buffer.from('x')])]), 'x');
    }
    t.match(proxyHeader(seen[0]!), { version: 2, authority: 'example.com', client: CLIENT });
    t.match(originalDst(seen[0]!), { ...DESTINATION, kind: 'proxy' });
    t.equal(processOf(seen[0]!), undefined, 'the process of the proxy is not the client');
    t.equal(proxyHeader(new Socket()), undefined);
    t.equal(clientOf(new Socket()), undefined);
  });

  t.test('over it: HTTP, TLS, relay()', async (t) => {
    const http = intercept(
      createHttpServer((request, response) => {
        const { address } = originalDst(request.socket) as { address: string };
        response.end(`${address} ${clientOf(request.socket)!.address}`);
      }),
      { proxyProtocol: { from } },
    ).listen(0);
    await once(http, 'listening');
    t.teardown(() => http.close());
    const { port } = http.address() as AddressInfo;
    const said = await talk(port, [`${V1}GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`]);
    t.match(said, /^HTTP\/1\.1 200 OK\r\n[^]*198\.51\.100\.7 192\.0\.2\.1/);

    const tls = intercept(
      createTlsServer(makeCertificate(), (socket) => {
        socket.end(
          `${(originalDst(socket) as { address: string }).address} ${proxyHeader(socket)!.authority}`,
        );
      }),
      { proxyProtocol: { from } },
    ).listen(0);
    await once(tls, 'listening');
    t.teardown(() => tls.close());
    const raw = connect((tls.address() as AddressInfo).port, '127.0.0.1');
    raw.write(V2);
    t.equal(await text(tlsConnect({ socket: raw, rejectUnauthorized: false })), '198.51.100.7 example.com');

    const echo = await echoServer(t, '127.0.0.1', 'echo ');
    sh('ip addr add 127.0.0.8/8 dev lo');
    const front = await listen(t, {}, (client) =>
      relay(client, connectOriginal(client, { preserveSource: true })),
    );
    const header = v2Tcp({ address: '127.0.0.8', port: 9 }, { address: '127.0.0.1', port: echo.port });
    let seen: string | undefined;
    echo.server.once('connection', (socket: Socket) => (seen = socket.remoteAddress));
    t.equal(await talk(front.port, [Buffer.concat([header, Buffer.from('early')])]), 'echo early');
    t.equal(seen, '127.0.0.8', 'dialled from the client’s address');
  });

  t.test('arguments', (t) => {
    for (const [proxyProtocol, code] of [
      [true, 'ERR_INVALID_ARG_TYPE'],
      [{}, 'ERR_INVALID_ARG_TYPE'],
      [{ from: ['127.0.0.1'] }, 'ERR_INVALID_ARG_TYPE'],
      [{ from, timeout: -1 }, 'ERR_OUT_OF_RANGE'],
      [{ from, tiemout: 1 }, 'ERR_INVALID_ARG_VALUE'],
    ] as const)
      t.throws(() => createServer({ proxyProtocol: proxyProtocol as never }), { code });
    t.end();
  });
});
