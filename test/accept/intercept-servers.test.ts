// intercept() on servers that exist already: every kind, with redirected traffic.
import { once } from 'node:events';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import * as https from 'node:https';
import { connect, createServer as createNetServer, type Server, type Socket } from 'node:net';
import * as tls from 'node:tls';
import t, { type Test } from 'tap';
import { intercept, originalDst, type OriginalDst } from '../../lib/index.ts';
import { makeCertificate } from '../fixtures/certificate.ts';
import { listening, redirectChain, rules } from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace } from '../fixtures/netns.ts';

const HOSTS = ['198.51.100.7', '2001:db8:2::7'];
const insecure = { rejectUnauthorized: false };

async function redirected(t: Test, server: Server): Promise<void> {
  const port = await listening(t, server);
  rules(t, 'inet', redirectChain(port));
}

const authority = (host: string): string => (host.includes(':') ? `[${host}]:80` : `${host}:80`);

async function text(stream: NodeJS.ReadableStream): Promise<string> {
  let all = '';
  for await (const chunk of stream) all += String(chunk);
  return all;
}

const describe = (socket: object): string => JSON.stringify(originalDst(socket));
const answer = (request: { socket: object }, response: { end: (body: string) => unknown }): void => {
  response.end(describe(request.socket));
};

function get(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const module = url.startsWith('https') ? https : http;
    module.get(url, { agent: false, ...insecure }, (response) => resolve(text(response))).on('error', reject);
  });
}

async function get2(url: string): Promise<string> {
  const session = http2.connect(url, insecure);
  try {
    return await text(session.request({ ':path': '/' }));
  } finally {
    session.destroy();
  }
}

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  const certificate = makeCertificate();

  const kinds: Record<string, { server: Server; ask: (host: string) => Promise<string> }> = {
    net: {
      server: createNetServer((socket) => socket.end(describe(socket))),
      ask: (host) => text(connect(80, host)),
    },
    http: { server: http.createServer(answer), ask: (host) => get(`http://${authority(host)}/`) },
    https: {
      server: https.createServer(certificate, answer),
      ask: (host) => get(`https://${authority(host)}/`),
    },
    'http2, cleartext': {
      server: http2.createServer(answer),
      ask: (host) => get2(`http://${authority(host)}`),
    },
    'http2, streams': {
      server: http2.createServer().on('stream', (stream) => {
        stream.respond();
        stream.end(describe(stream.session!.socket));
      }),
      ask: (host) => get2(`http://${authority(host)}`),
    },
    'http2 over TLS': {
      server: http2.createSecureServer(certificate, answer),
      ask: (host) => get2(`https://${authority(host)}`),
    },
    'http/1 on an http2 server over TLS': {
      server: http2.createSecureServer({ ...certificate, allowHTTP1: true }, answer),
      ask: (host) => get(`https://${authority(host)}/`),
    },
    tls: {
      server: tls.createServer(certificate, (socket) => socket.end(describe(socket))),
      ask: (host) => text(tls.connect({ host, port: 80, ...insecure })),
    },
  };

  for (const [name, { server, ask }] of Object.entries(kinds)) {
    await t.test(name, async (t) => {
      t.equal(intercept(server), server, 'the same server');
      await redirected(t, server);
      for (const address of HOSTS) {
        t.match(JSON.parse(await ask(address)), { kind: 'redirect', address, port: 80 });
      }
      t.match(intercepted(server), { redirect: 2, direct: 0, unknown: 0, reset: 0 });
    });
  }

  await t.test('after the TLS socket is closed', async (t) => {
    const server = intercept(tls.createServer(certificate));
    await redirected(t, server);
    const connection = once(server, 'secureConnection');
    const client = tls.connect({ host: HOSTS[0]!, port: 80, ...insecure }).on('error', () => {});
    const [socket] = (await connection) as [tls.TLSSocket];
    client.destroy();
    socket.destroy();
    await once(socket, 'close');
    t.match(originalDst(socket), { kind: 'redirect', address: HOSTS[0] });
  });

  await t.test('upgrade and CONNECT', async (t) => {
    const server = http.createServer();
    const seen: (OriginalDst | undefined)[] = [];
    const hello = (request: http.IncomingMessage, socket: Socket): void => {
      seen.push(originalDst(request.socket), originalDst(socket));
      socket.end('HTTP/1.1 400 Bad Request\r\n\r\n');
    };
    server.on('upgrade', hello).on('connect', hello);
    await redirected(t, intercept(server));
    for (const options of [
      { method: 'CONNECT', path: 'example.org:443' },
      { headers: { connection: 'upgrade', upgrade: 'websocket' } },
    ]) {
      const request = http.request({ host: HOSTS[0], port: 80, agent: false, ...options }).end();
      await Promise.race([once(request, 'response'), once(request, 'connect')]);
      request.destroy();
    }
    t.equal(seen.length, 4);
    for (const one of seen) t.match(one, { kind: 'redirect', address: HOSTS[0], port: 80 });
  });

  await t.test('a net server that looks at the first bytes and hands the socket on', async (t) => {
    // Only the servers behind it are intercepted, and those listen nowhere.
    const plain = intercept(http.createServer(answer));
    const secure = intercept(https.createServer(certificate, answer));
    const front = createNetServer((socket) => {
      socket.once('data', (first) => {
        socket.pause();
        socket.unshift(first);
        (first[0] === 22 ? secure : plain).emit('connection', socket);
        process.nextTick(() => socket.resume());
      });
    });
    await redirected(t, front);
    t.match(JSON.parse(await get(`http://${HOSTS[0]}:80/`)), { kind: 'redirect', address: HOSTS[0] });
    t.match(JSON.parse(await get(`https://${HOSTS[0]}:80/`)), { kind: 'redirect', address: HOSTS[0] });
    t.match([plain.interceptStats, secure.interceptStats], [{ redirect: 1 }, { redirect: 1 }]);
  });
});

function intercepted(server: Server): unknown {
  return (server as Server & { interceptStats: unknown }).interceptStats;
}
