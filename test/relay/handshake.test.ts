// createRelayServer(): what the relay thread makes of the answers of other proxies, in one piece and byte by byte.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import t, { type Test } from 'tap';
import {
  createRelayServer,
  type ProxyServer,
  type RelayOutcome,
  type RoutedVerdict,
} from '../../lib/index.ts';
import { handshakeCode } from '../../lib/dial/handshake-error.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { type ScriptTurn, scriptedProxy } from '../fixtures/proxies.ts';
import { deadPort, outcome, readAll } from '../fixtures/relay-world.ts';

type Protocol = ProxyServer['protocol'];
const NAMED = { name: 'far.test', port: 443 };

/** What a client gets that says 'early' at once, when the verdict is this. */
async function relayed(
  verdict: Omit<RoutedVerdict, 'action'>,
  connectTimeout?: number,
): Promise<{ data: string; end: string; outcome: RelayOutcome; bytesToUpstream: number }> {
  const server = createRelayServer({
    ...(connectTimeout === undefined ? {} : { connectTimeout }),
    decide: () => ({ action: 'relay', ...verdict }),
  }).listen(0, '127.0.0.1');
  const relay = once(server, 'relay');
  const client = connect({ port: server.address()!.port, host: '127.0.0.1', allowHalfOpen: true });
  client.on('error', () => {});
  client.write('early');
  const { data, end } = await readAll(client);
  client.destroy();
  const [joined] = await relay;
  const how = await outcome(joined);
  server.destroy();
  await once(server, 'close');
  return { data: String(data), end, outcome: how, bytesToUpstream: joined.bytesToUpstream };
}

async function through(
  protocol: Protocol,
  script: ScriptTurn[],
  pieces: number,
  more: Partial<ProxyServer> = {},
  connectTimeout?: number,
): ReturnType<typeof relayed> {
  // Whether anything is left open is asked while the test still runs.
  const undo: (() => void)[] = [];
  const until = { teardown: (step: () => void) => void undo.push(step) } as unknown as Test;
  const port = await scriptedProxy(until, script, pieces);
  const via = { protocol, address: '127.0.0.1', port, ...more };
  const result = await relayed({ via, to: NAMED }, connectTimeout);
  for (const step of undo) step();
  return result;
}

const bytes = (...values: (number | string)[]): Buffer =>
  Buffer.concat(values.map((value) => Buffer.from(typeof value === 'number' ? [value] : value)));
const BOUND = [0, 1, 10, 0, 0, 1, 0x1f, 0x90];
const ME = { username: 'me' };
const REQUEST = 4 + 1 + NAMED.name.length + 2;
const HTTP_REQUEST = `CONNECT far.test:443 HTTP/1.1\r\nHost: far.test:443\r\n\r\n`.length;

/** After the greeting: what is said to the request. */
const asked = (answer: Uint8Array | 'FIN' | 'RST'): ScriptTurn[] => [
  [3, bytes(5, 0)],
  [REQUEST, answer],
  [0, 'FIN'],
];
const head = (text: string): ScriptTurn[] => [
  [HTTP_REQUEST, `${text.replaceAll('\n', '\r\n')}\r\n\r\n`],
  [0, 'FIN'],
];

t.test('what connects: the bytes behind the answer, and those of the client', async (t) => {
  const before = openSockets();
  const rest = 'SSH-2.0 rest of it';
  const cases: [string, Protocol, ScriptTurn[], Partial<ProxyServer>?][] = [
    ['IPv4', 'socks5', asked(bytes(5, 0, ...BOUND, rest))],
    ['IPv6', 'socks5', asked(bytes(5, 0, 0, 4, 'x'.repeat(18), rest))],
    ['a name', 'socks5', asked(bytes(5, 0, 0, 3, 4, 'host', 0, 80, rest))],
    ['an empty name', 'socks5', asked(bytes(5, 0, 0, 3, 0, 0, 80, rest))],
    ['a name of 255 bytes', 'socks5', asked(bytes(5, 0, 0, 3, 255, 'n'.repeat(255), 0, 80, rest))],
    ['no password wanted', 'socks5', [[4, bytes(5, 0)], ...asked(bytes(5, 0, ...BOUND, rest)).slice(1)], ME],
    [
      'a password',
      'socks5',
      [[4, bytes(5, 2)], [5, bytes(1, 0)], ...asked(bytes(5, 0, ...BOUND, rest)).slice(1)],
      ME,
    ],
    [
      '200',
      'http',
      [
        [HTTP_REQUEST, `HTTP/1.0 200 OK\r\n\r\n${rest}`],
        [0, 'FIN'],
      ],
    ],
    [
      '204, no reason',
      'http',
      [
        [HTTP_REQUEST, `HTTP/1.1 204\r\nA: b\r\n\r\n${rest}`],
        [0, 'FIN'],
      ],
    ],
    [
      'after interim ones',
      'http',
      [
        [HTTP_REQUEST, `HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 \r\n\r\n${rest}`],
        [0, 'FIN'],
      ],
    ],
  ];
  for (const [name, protocol, script, more] of cases) {
    // The client's bytes are read too, and nothing else: the script ends when they are there.
    const whole: ScriptTurn[] = [...script.slice(0, -1), ['early'.length, undefined], [0, 'FIN']];
    for (const pieces of [Infinity, 1]) {
      const { data, end, bytesToUpstream } = await through(protocol, whole, pieces, more);
      t.same([data, end, bytesToUpstream], [rest, 'fin', 5], `${name}, in pieces of ${pieces}`);
    }
  }
  t.same(await socketsLeft(before), []);
});

t.test('what does not', async (t) => {
  const before = openSockets();
  const cases: [string, Protocol, ScriptTurn[], string, (number | undefined)?, Partial<ProxyServer>?][] = [
    ['no method', 'socks5', [[3, bytes(5, 255)]], 'ERR_PROXY_AUTH', 255],
    ['no method, with a password', 'socks5', [[4, bytes(5, 255)]], 'ERR_PROXY_AUTH', 255, ME],
    [
      'wrong password',
      'socks5',
      [
        [4, bytes(5, 2)],
        [5, bytes(1, 7)],
      ],
      'ERR_PROXY_AUTH',
      7,
      ME,
    ],
    ['a method that was not offered', 'socks5', [[3, bytes(5, 2)]], 'ERR_PROXY_PROTOCOL'],
    ['another method', 'socks5', [[4, bytes(5, 1)]], 'ERR_PROXY_PROTOCOL', undefined, ME],
    ['SOCKS4', 'socks5', [[3, bytes(0)]], 'ERR_PROXY_PROTOCOL'],
    ['HTTP', 'socks5', [[3, 'HTTP/1.1 400 Bad Request\r\n']], 'ERR_PROXY_PROTOCOL'],
    [
      'password version',
      'socks5',
      [
        [4, bytes(5, 2)],
        [5, bytes(5, 0)],
      ],
      'ERR_PROXY_PROTOCOL',
      undefined,
      ME,
    ],
    ['reply version', 'socks5', asked(bytes(4, 0)), 'ERR_PROXY_PROTOCOL'],
    ['address type', 'socks5', asked(bytes(5, 0, 0, 2)), 'ERR_PROXY_PROTOCOL'],
    ['refused, and no more', 'socks5', asked(bytes(5, 5)), 'ERR_PROXY_REFUSED', 5],
    ['a reply of its own', 'socks5', asked(bytes(5, 0x5b, ...BOUND)), 'ERR_PROXY_REFUSED', 0x5b],
    ['cut off at once', 'socks5', [[3, 'FIN']], 'ERR_PROXY_PROTOCOL'],
    [
      'cut off in the method',
      'socks5',
      [
        [3, bytes(5)],
        [0, 'FIN'],
      ],
      'ERR_PROXY_PROTOCOL',
    ],
    [
      'cut off after it',
      'socks5',
      [
        [3, bytes(5, 0)],
        [0, 'FIN'],
      ],
      'ERR_PROXY_PROTOCOL',
    ],
    ['cut off in the reply', 'socks5', asked(bytes(5, 0, ...BOUND.slice(0, -1))), 'ERR_PROXY_PROTOCOL'],
    ['reset', 'socks5', asked('RST'), 'ECONNRESET'],
    ['101', 'http', head('HTTP/1.1 101 Switching'), 'ERR_PROXY_REFUSED', 101],
    ['interim, then no', 'http', head('HTTP/1.1 103 \n\nHTTP/1.1 502 No'), 'ERR_PROXY_REFUSED', 502],
    ['a status that nobody knows', 'http', head('HTTP/1.1 599 \x1b[2J'), 'ERR_PROXY_REFUSED', 599],
    ['302', 'http', head('HTTP/1.1 302 Found\nLocation: /'), 'ERR_PROXY_REFUSED', 302],
    ['407', 'http', head('HTTP/1.1 407 '), 'ERR_PROXY_AUTH', 407],
    ['401', 'http', head('HTTP/1.1 401 Unauthorized'), 'ERR_PROXY_AUTH', 401],
    ['SSH', 'http', [[HTTP_REQUEST, 'S']], 'ERR_PROXY_PROTOCOL'],
    ['HTTP/2', 'http', [[HTTP_REQUEST, 'HTTP/2 ']], 'ERR_PROXY_PROTOCOL'],
    ['two digits', 'http', [[HTTP_REQUEST, 'HTTP/1.1 20 OK\r\n\r\n']], 'ERR_PROXY_PROTOCOL'],
    ['four', 'http', [[HTTP_REQUEST, 'HTTP/1.1 2000 OK\r\n\r\n']], 'ERR_PROXY_PROTOCOL'],
    ['600', 'http', head('HTTP/1.1 600 OK'), 'ERR_PROXY_PROTOCOL'],
    ['a bare LF', 'http', [[HTTP_REQUEST, 'HTTP/1.1 200 OK\n']], 'ERR_PROXY_PROTOCOL'],
    ['a bare CR', 'http', [[HTTP_REQUEST, 'HTTP/1.1 200 O\rK']], 'ERR_PROXY_PROTOCOL'],
    [
      'cut off in the head',
      'http',
      [
        [HTTP_REQUEST, 'HTTP/1.1 200 OK\r\n\r'],
        [0, 'FIN'],
      ],
      'ERR_PROXY_PROTOCOL',
    ],
  ];
  for (const [name, protocol, script, code, proxyStatus, more] of cases) {
    for (const pieces of [Infinity, 1]) {
      const result = await through(protocol, script, pieces, more);
      t.equal(result.data, '', name);
      const { side, error } = result.outcome as { side: string; error: { code: string; message: string } };
      const status = (error as { proxyStatus?: number }).proxyStatus;
      t.same([side, error.code, status], ['upstream', code, proxyStatus], `${name}: ${error.message}`);
      t.match(error.message, /^[\x20-\x7e’]+$/, `${name}: the message can be printed`);
    }
  }
  t.same(await socketsLeft(before), []);
});

t.test('what is too much, and what takes too long', async (t) => {
  const long = `A: ${'a'.repeat(16 * 1024)}`;
  for (const [name, protocol, script] of [
    ['answered before asked', 'socks5', [[3, bytes(5, 0, 5, 0, ...BOUND)]]],
    ['no end', 'http', [[HTTP_REQUEST, `HTTP/1.1 200 OK\r\n${long}`]]],
    ['too long a head', 'http', head(`HTTP/1.1 200 OK\n${long}`)],
    ['interim for ever', 'http', [[HTTP_REQUEST, 'HTTP/1.1 100 \r\n\r\n'.repeat(1000)]]],
  ] as [string, Protocol, ScriptTurn[]][]) {
    const { outcome: how } = await through(protocol, script, Infinity);
    t.match(how, { error: { code: 'ERR_PROXY_PROTOCOL' } }, name);
  }
  const began = performance.now();
  for (const script of [[], asked(bytes(5, 0, 0)).slice(0, -1)]) {
    const late = await through('socks5', script as ScriptTurn[], 1, {}, 150);
    t.match(late, { end: 'ECONNRESET', outcome: { error: { code: 'ERR_PROXY_TIMEOUT' } } });
    t.match((late.outcome as { error: Error }).error.message, '150 ms');
  }
  t.ok(performance.now() - began > 290, 'no sooner');
});

t.test('hop after hop, target after target', async (t) => {
  const [dead, closed] = [await deadPort(), await deadPort()];
  const echo = createServer({ allowHalfOpen: true }, (socket) => {
    socket.once('data', (words) => socket.end(words));
  });
  echo.listen(0, '127.0.0.1');
  await once(echo, 'listening');
  const { port } = echo.address() as { port: number };
  const here = (at: number): { address: string; port: number } => ({ address: '127.0.0.1', port: at });
  t.match(await relayed({ to: [here(dead), here(port)] }), {
    data: 'early',
    outcome: { reason: 'end' },
    bytesToUpstream: 5,
  });
  // An interface that is not there cannot even be dialled.
  t.match(await relayed({ to: { address: 'fe80::1%nowhere', port: 1 }, proxyProtocol: 1 }), {
    outcome: { error: { code: 'ENODEV' } },
  });
  const { outcome: none } = await relayed({
    to: [here(closed), { address: '::1', port: closed }, here(dead)],
  });
  t.match(none, { error: { code: 'ECONNREFUSED', port: dead, syscall: 'connect' } }, 'the last one’s error');
  const { errors } = (none as { error: { cause: AggregateError } }).error.cause;
  t.match(
    errors,
    [
      { code: 'ECONNREFUSED', port: closed },
      { address: '::1', port: closed },
    ],
    'and those of the others',
  );

  // Each target is a question of its own to the proxy; only the last one has no other chance.
  const proxy = await scriptedProxy(t, asked(bytes(5, 4, ...BOUND)));
  const via = { protocol: 'socks5', address: '127.0.0.1', port: proxy } as const;
  const { outcome: twice } = await relayed({ via, to: [NAMED, NAMED] });
  t.match(twice, { error: { code: 'ERR_PROXY_REFUSED', proxyStatus: 4 } });
  const { cause } = (twice as { error: { cause: AggregateError } }).error;
  t.match(cause.errors, [{ code: 'ERR_PROXY_REFUSED', proxyStatus: 4 }]);
  t.equal(cause.errors.length, 1);

  // By its name, of which one address does not answer.
  const named = { ...via, address: 'localhost' };
  t.match(await relayed({ via: named, to: NAMED }), { outcome: { error: { code: 'ERR_PROXY_REFUSED' } } });
  t.match(await relayed({ via: { ...via, address: 'nobody.invalid' }, to: NAMED }), {
    end: 'ECONNRESET',
    outcome: { reason: 'error', side: 'upstream', error: { syscall: 'getaddrinfo' } },
  });
  echo.close();
  await once(echo, 'close');
});

t.test('the client goes in the midst of it', async (t) => {
  const port = await scriptedProxy(t, [[3, bytes(5, 0)]]);
  const before = openSockets();
  const via = { protocol: 'socks5', address: '127.0.0.1', port } as const;
  const server = createRelayServer({ decide: () => ({ action: 'relay', via, to: NAMED }) });
  server.listen(0, '127.0.0.1');
  for (const how of ['RST', 'FIN'] as const) {
    const relay = once(server, 'relay');
    const client = connect(server.address()!.port, '127.0.0.1');
    client.on('error', () => {});
    const [joined] = await relay;
    if (how === 'FIN') {
      // It may be waiting for an answer.
      client.end();
      await new Promise((resolve) => setTimeout(resolve, 20));
      t.equal(joined.outcome, undefined);
      joined.destroy();
      t.match(await outcome(joined), { reason: 'aborted' });
    } else {
      client.resetAndDestroy();
      t.match(await outcome(joined), { reason: 'reset', side: 'client' });
    }
    client.destroy();
  }
  server.destroy();
  await once(server, 'close');
  t.same(await socketsLeft(before), []);
});

t.test('the codes in records', (t) => {
  t.same([1, 2, 3, 9].map(handshakeCode), [
    'ERR_PROXY_REFUSED',
    'ERR_PROXY_AUTH',
    'ERR_PROXY_PROTOCOL',
    'ERR_PROXY_TIMEOUT',
  ]);
  t.end();
});
