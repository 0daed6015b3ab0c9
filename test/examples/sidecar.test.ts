// The sidecar behind its own rules.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  Agent,
  createServer as createHttpServer,
  request,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { listening, rules } from '../fixtures/connections.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { startProgram } from '../fixtures/program.ts';

const sidecar = fileURLToPath(new URL('../../examples/sidecar/sidecar.js', import.meta.url));
const HTTP = 8080;
const TCP = 8081;

interface Answer {
  status: number;
  headers: string[];
  body: string;
  trailers: NodeJS.Dict<string>;
}

async function ask(options: RequestOptions, body: string[] = []): Promise<Answer> {
  const asked = request({ host: '127.0.0.1', port: HTTP, maxHeaderSize: 100_000, ...options });
  for (const part of body) asked.write(part);
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const received = await text(response);
  return {
    status: response.statusCode!,
    headers: response.rawHeaders,
    body: received,
    trailers: response.trailers,
  };
}

/** Sends bytes as they are, and gives everything that comes back. */
async function raw(port: number, parts: string[], { fin = false } = {}): Promise<string> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const all = text(socket);
  for (const part of parts) {
    socket.write(part);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  if (fin) socket.end();
  const received = await all;
  socket.destroy();
  return received;
}

const stats = async (): Promise<string> => (await ask({ port: 15020, path: '/metrics' })).body;

/** The workload: what it does is in the path. */
async function workload(t: Test): Promise<{ connections: () => number }> {
  let connections = 0;
  const http = createHttpServer({ maxHeaderSize: 100_000 }, (request, response) => {
    void (async () => {
      switch (request.url) {
        case '/echo': {
          const body = await text(request);
          response.writeHead(207, 'Odd', ['X-One', 'a', 'x-TWO', 'b', 'X-One', 'c', 'Trailer', 'X-End']);
          response.write(JSON.stringify({ headers: request.rawHeaders, body, method: request.method }));
          response.addTrailers({ 'X-End': 'yes' });
          response.end();
          break;
        }
        case '/empty':
          response.writeHead(304, { etag: '"1"' }).end();
          break;
        case '/half':
          response.write('half an ans');
          setTimeout(() => request.socket.destroy(), 50);
          break;
        case '/nothing':
          request.socket.resetAndDestroy();
          break;
        case '/close':
          response.writeHead(200, { connection: 'close' }).end('bye');
          break;
        case '/odd':
          response.socket!.end('HTTP/1.1 200 OK\r\nTrailer: X\r\nContent-Length: 3\r\n\r\nodd');
          break;
        case '/odder':
          response.socket!.end('HTTP/1.1 200 OK\r\nX: \x01\r\nContent-Length: 3\r\n\r\nodd');
          break;
        case '/long':
          response.setHeader('X-Long', 'y'.repeat(20_000));
          response.end(`${request.headers.authorization?.length}`);
          break;
        case '/hints':
          response.writeEarlyHints({ link: '</a.css>; rel=preload' });
          response.end('with hints');
          break;
        case '/never':
          request.socket.on('close', () => http.emit('abandoned'));
          break;
        default:
          response.end(`peer ${request.socket.remoteAddress}`);
      }
    })();
  });
  http.on('connection', () => connections++);
  http.on('upgrade', (request: IncomingMessage, socket: Socket, head: Buffer) => {
    if (request.headers.upgrade !== 'echo') {
      socket.end('HTTP/1.1 426 Upgrade Required\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n');
      return;
    }
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nfirst;');
    socket.write(head);
    socket.pipe(socket);
  });
  await listening(t, http, { port: HTTP, host: '127.0.0.1' });
  t.teardown(() => http.closeAllConnections());
  const tcp = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    let received = '';
    socket.on('data', (data) => (received += String(data)));
    socket.on('end', () => socket.end(`${socket.remoteAddress} got ${received}`));
  });
  await listening(t, tcp, { port: TCP, host: '127.0.0.1' });
  t.context.http = http;
  return { connections: () => connections };
}

await inNamespace(t, import.meta.url, async () => {
  rules(
    t,
    'ip',
    `chain out {
      type nat hook output priority -100
      ip saddr != 127.0.0.6 tcp dport ${HTTP}-${TCP} redirect to :15006
    }`,
  );
  const { connections } = await workload(t);
  const proxy = await startProgram(t, process.execPath, [sidecar], /"event":"ready"/);

  t.test('keep-alive: one connection of the client is one connection to the workload', async (t) => {
    const before = connections();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (let i = 0; i < 3; i++) t.equal((await ask({ agent })).body, 'peer 127.0.0.6');
    agent.destroy();
    t.equal(connections() - before, 1);
    t.ok(
      await proxy.printed(
        /"destination":"127\.0\.0\.1:8080","kind":"redirect","protocol":"http","method":"GET"/,
      ),
    );
  });

  t.test('headers, bodies and trailers arrive as they were sent', async (t) => {
    const headers = [
      'Host',
      'shop.test',
      'X-b',
      '1',
      'x-B',
      '2',
      'Transfer-Encoding',
      'chunked',
      'Connection',
      'close',
    ];
    const {
      status,
      headers: answered,
      body,
      trailers,
    } = await ask(
      {
        method: 'POST',
        path: '/echo',
        headers: headers as unknown as RequestOptions['headers'] & object,
        setHost: false,
      },
      ['one ', 'two'],
    );
    t.equal(status, 207);
    t.same(JSON.parse(body), { headers, body: 'one two', method: 'POST' });
    t.same(answered.slice(0, 8), ['X-One', 'a', 'x-TWO', 'b', 'X-One', 'c', 'Trailer', 'X-End']);
    t.same(trailers, { 'x-end': 'yes' });
    t.ok(await proxy.printed(/"method":"POST","host":"shop\.test","path":"\/echo","status":207/));

    t.match(await ask({ method: 'HEAD', path: '/' }), { status: 200, body: '' });
    t.match(await ask({ path: '/empty' }), { status: 304, body: '' });
    const expecting = { method: 'PUT', path: '/echo', headers: { expect: '100-continue' } };
    t.match(JSON.parse((await ask(expecting, ['now'])).body), { body: 'now', method: 'PUT' });
  });

  t.test('two requests at once, in order; HTTP/1.0; the end of keep-alive', async (t) => {
    const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`;
    const both = await raw(HTTP, [get('/echo') + get('/close')]);
    t.match(both, /207 Odd[^]*"method":"GET"[^]*200 OK[^]*bye/);
    const old = await raw(HTTP, ['GET /echo HTTP/1.0\r\n\r\n']);
    t.match(old, /207 Odd/);
    t.notMatch(old, /chunked/i);
    t.match(old, /\r\n\r\n\{"headers"/, 'the body is not chunked');
  });

  t.test('what goes wrong is not made to look right', async (t) => {
    const half = request({ host: '127.0.0.1', port: HTTP, path: '/half' }).end();
    const [response] = (await once(half, 'response')) as [IncomingMessage];
    await t.rejects(text(response), { code: 'ECONNRESET' }, 'half an answer');
    t.match(await ask({ path: '/nothing' }), { status: 502 });
    t.match(await ask({ path: '/odd' }), { status: 200, body: 'odd' }, 'a header that means nothing');
    t.match(
      await raw(HTTP, ['GET /odder HTTP/1.1\r\nHost: a\r\n\r\n']),
      /^(HTTP\/1\.1 502 [^]*)?$/,
      'invalid',
    );

    const abandoned = once(t.context.http, 'abandoned');
    const never = request({ host: '127.0.0.1', port: HTTP, path: '/never' }).end();
    never.on('error', () => {});
    setTimeout(() => never.destroy(), 100);
    await abandoned;
    t.ok(await proxy.printed(/"path":"\/never","status":0/), 'the workload learns that the client has gone');

    t.equal(await raw(HTTP, ['GET / HTTP/9\r\n\r\n']), '', 'not HTTP after all');
  });

  t.test('upgrades become a plain relay', async (t) => {
    const upgrade = (to: string): string =>
      `GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: ${to}\r\n\r\n`;
    const talk = await raw(HTTP, [`${upgrade('echo')}early;`, 'later;'], { fin: true });
    t.match(talk, /^HTTP\/1\.1 101 Switching Protocols\r\n[^]*\r\n\r\nfirst;early;later;$/);
    const refused = await raw(HTTP, [upgrade('tea')]);
    t.match(refused, /^HTTP\/1\.1 426 Upgrade Required\r\nConnection: close\r\n\r\nno!$/);
  });

  t.test('an offer of h2c is left out: the body goes on, the connection stays', async (t) => {
    const offer = { connection: 'Upgrade, HTTP2-Settings', upgrade: 'h2c', 'http2-settings': 'AAMAAABk' };
    const before = connections();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    for (const body of ['hello', 'again']) {
      const { status, body: echoed } = await ask({ agent, method: 'POST', path: '/echo', headers: offer }, [
        body,
      ]);
      t.equal(status, 207);
      t.match(JSON.parse(echoed), { body, method: 'POST' });
      t.notMatch(echoed, /h2c|http2-settings/i);
    }
    t.match(await ask({ agent, headers: offer }), { status: 200 });
    agent.destroy();
    t.equal(connections() - before, 1);
  });

  t.test('long headers, Early Hints', async (t) => {
    const long = 'y'.repeat(20_000);
    t.match(await ask({ path: '/long', headers: { authorization: long } }), { status: 200, body: '20000' });
    const answer = (await ask({ path: '/long' })).headers;
    t.equal(answer[answer.indexOf('X-Long') + 1]?.length, 20_000);
    const tooLong = await raw(HTTP, [`GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(70_000)}\r\n\r\n`]);
    t.match(tooLong, /^HTTP\/1\.1 431 /);
    t.ok(await proxy.printed(/"protocol":"http","failed":"Parse Error: Header overflow"/));

    const hints = 'GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';
    t.match(
      await raw(HTTP, [hints]),
      /^HTTP\/1\.1 103 Early Hints\r\nLink: <\/a\.css>[^]*\r\n\r\nHTTP\/1\.1 200 OK/i,
    );
    t.match(await raw(HTTP, ['GET /hints HTTP/1.0\r\n\r\n']), /^HTTP\/1\.1 200 OK/, 'HTTP/1.0 knows no 103');
  });

  t.test('everything else is passed on as it is', async (t) => {
    t.equal(
      await raw(TCP, ['hello ', 'there'], { fin: true }),
      '127.0.0.6 got hello there',
      'with half-close',
    );
    t.equal(await raw(TCP, [], { fin: true }), '127.0.0.6 got ', 'a client that says nothing');
    t.ok(await proxy.printed(/"protocol":"tcp","sent":11,"received":25,"ms":\d+,"end":"end"/));
    const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';
    t.equal(await raw(TCP, [preface], { fin: true }), `127.0.0.6 got ${preface}`, 'HTTP/2');
  });

  t.test('statistics and readiness', async (t) => {
    const page = await stats();
    for (const line of page.trimEnd().split('\n')) {
      t.match(
        line,
        /^(|# (HELP|TYPE) \w+ .+|(sidecar|original_dst)_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \d+)$/,
      );
    }
    t.match(page, 'sidecar_http_requests_total{direction="inbound",status="207"}');
    t.match(page, /^original_dst_connections_total\{server="inbound",kind="redirect"\} [1-9]/m);
    t.match(page, 'original_dst_connections_total{server="outbound",kind="redirect"} 0');
    t.match(page, 'sidecar_tcp_closed_total{direction="inbound",reason="end"}');
    t.match(await ask({ port: 15020, path: '/ready' }), { status: 200, body: 'ready\n' });
    t.match(await ask({ port: 15020, path: '/' }), { status: 404 });
  });

  t.test('SIGTERM: idle clients are let go, others at the deadline', async (t) => {
    const agent = new Agent({ keepAlive: true });
    await ask({ agent });
    const idle = once(Object.values(agent.freeSockets)[0]![0]!, 'close');
    const exited = once(proxy.child, 'exit');
    proxy.child.kill('SIGTERM');
    await idle;
    t.same(await exited, [0, null]);
    t.ok(await proxy.printed(/"event":"stopped","cut":0/));

    const impatient = await startProgram(
      t,
      'env',
      ['DRAIN_SECONDS=0.2', process.execPath, sidecar],
      /"event":"ready"/,
    );
    const client = connect(TCP, '127.0.0.1');
    client.on('error', () => {});
    const closed = once(client, 'close');
    client.write('x');
    while (!/^sidecar_open 1$/m.test(await stats()));
    const cut = once(impatient.child, 'exit');
    impatient.child.kill('SIGTERM');
    await closed;
    t.same(await cut, [0, null]);
    t.ok(await impatient.printed(/"event":"stopped","cut":1/));
  });

  t.test('settings that make no sense', (t) => {
    for (const setting of ['INTERCEPTION_MODE=MAGIC', 'DRAIN_SECONDS=soon']) {
      const { status, stderr } = spawnSync('env', [setting, process.execPath, sidecar], { encoding: 'utf8' });
      t.equal(status, 1);
      t.match(stderr, setting.split('=')[0]!);
    }
    t.end();
  });
});
