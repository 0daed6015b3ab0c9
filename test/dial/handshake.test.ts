// The talks with proxies, without a network: for every way to cut an answer, and for what is no answer.
import * as fc from 'fast-check';
import t from 'tap';
import type { CodedError } from '../../lib/errors.ts';
import { Conversation, type ProxyError } from '../../lib/dial/handshake.ts';
import { httpConnect } from '../../lib/dial/http-connect.ts';
import { readDestination, type ProxyServer } from '../../lib/dial/proxy-server.ts';
import { socks5 } from '../../lib/dial/socks5.ts';

const numRuns = Number(process.env['FUZZ_RUNS'] ?? 200);
const where = { address: '192.0.2.1', port: 1080 };

type Target = ReturnType<typeof readDestination>;
const V4: Target = { address: '192.0.2.7', port: 443 };

function socks(target: Target = V4, credentials: Partial<ProxyServer> = {}): Conversation {
  return new Conversation(socks5({ protocol: 'socks5', ...where, ...credentials }, target));
}

function http(target: Target = V4, credentials: Partial<ProxyServer> = {}): Conversation {
  return new Conversation(httpConnect({ protocol: 'http', ...where, ...credentials }, target));
}

interface Course {
  sent: Buffer[];
  rest?: Buffer;
  error?: CodedError;
}

/** Gives a conversation the answers, each when it has been asked for, each cut where `cuts` says. */
function course(talked: Conversation, answers: Buffer[], cuts: number[] = []): Course {
  const result: Course = { sent: [Buffer.from(talked.opening)] };
  try {
    for (const answer of answers) {
      const at = [...new Set(cuts.map((cut) => cut % answer.length))].filter((cut) => cut > 0);
      at.sort((a, b) => a - b);
      for (const [i, end] of [...at, answer.length].entries()) {
        const next = talked.take(answer.subarray(at[i - 1] ?? 0, end));
        if (next === undefined) continue;
        if ('send' in next) result.sent.push(Buffer.from(next.send));
        else if (result.rest === undefined) result.rest = next.rest;
      }
    }
  } catch (error) {
    result.error = error as CodedError;
  }
  return result;
}

const bytes = (...values: (number | string)[]): Buffer =>
  Buffer.concat(
    values.map((value) => (typeof value === 'number' ? Buffer.from([value]) : Buffer.from(value))),
  );
const BOUND = [0, 1, 10, 0, 0, 1, 0x1f, 0x90];

t.test('SOCKS5: what is sent', (t) => {
  const password = { username: 'me', password: 'secret' };
  const cases: [Conversation, Buffer[], Buffer[]][] = [
    [
      socks(),
      [bytes(5, 0), bytes(5, 0, ...BOUND)],
      [bytes(5, 1, 0), bytes(5, 1, 0, 1, 192, 0, 2, 7, 1, 0xbb)],
    ],
    [
      socks({ address: '2001:db8::1:0:7', port: 80 }),
      [bytes(5, 0), bytes(5, 0, 0, 4, Buffer.alloc(18, 1).toString())],
      [bytes(5, 1, 0), bytes(5, 1, 0, 4, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 80)],
    ],
    [
      socks({ address: '::1', port: 80 }),
      [bytes(5, 0), bytes(5, 0, 0, 3, 4, 'host', 0, 80)],
      [bytes(5, 1, 0), bytes(5, 1, 0, 4, Buffer.alloc(15).toString(), 1, 0, 80)],
    ],
    [
      socks({ address: '1:2:3:4:5:6:7:8', port: 80 }),
      [bytes(5, 0), bytes(5, 0, ...BOUND)],
      [bytes(5, 1, 0), bytes(5, 1, 0, 4, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 80)],
    ],
    [
      socks({ name: 'example.com', port: 65535 }, password),
      [bytes(5, 2), bytes(1, 0), bytes(5, 0, ...BOUND)],
      [bytes(5, 2, 0, 2), bytes(1, 2, 'me', 6, 'secret'), bytes(5, 1, 0, 3, 11, 'example.com', 255, 255)],
    ],
    [
      socks(V4, { username: 'me' }),
      [bytes(5, 2), bytes(1, 0), bytes(5, 0, ...BOUND)],
      [bytes(5, 2, 0, 2), bytes(1, 2, 'me', 0), bytes(5, 1, 0, 1, 192, 0, 2, 7, 1, 0xbb)],
    ],
  ];
  for (const [talked, answers, sent] of cases) {
    t.same(course(talked, answers), { sent, rest: Buffer.alloc(0) });
  }
  t.end();
});

t.test('HTTP CONNECT: what is sent', (t) => {
  const ok = [bytes('HTTP/1.1 200 OK\r\n\r\n')];
  const cases: [Conversation, string][] = [
    [http(), 'CONNECT 192.0.2.7:443 HTTP/1.1\r\nHost: 192.0.2.7:443\r\n\r\n'],
    [
      http({ address: '2001:db8::7', port: 80 }),
      'CONNECT [2001:db8::7]:80 HTTP/1.1\r\nHost: [2001:db8::7]:80\r\n\r\n',
    ],
    [
      http({ name: 'example.com', port: 443 }, { username: 'Aladdin', password: 'open sesame' }),
      'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n',
    ],
    [
      http(V4, { username: 'Jürgen' }),
      'CONNECT 192.0.2.7:443 HTTP/1.1\r\nHost: 192.0.2.7:443\r\nProxy-Authorization: Basic SsO8cmdlbjo=\r\n\r\n',
    ],
  ];
  for (const [talked, sent] of cases) {
    t.same(course(talked, ok), { sent: [bytes(sent)], rest: Buffer.alloc(0) });
  }
  t.end();
});

t.test('what the proxies say', (t) => {
  const head = (text: string): Buffer[] => [bytes(`${text.replaceAll('\n', '\r\n')}\r\n\r\n`)];
  const cases: [string, Conversation, Buffer[], string | Buffer, number?][] = [
    ['no method', socks(), [bytes(5, 255)], 'ERR_PROXY_AUTH', 255],
    ['no method, with a password', socks(V4, { username: 'me' }), [bytes(5, 255)], 'ERR_PROXY_AUTH', 255],
    ['wrong password', socks(V4, { username: 'me' }), [bytes(5, 2), bytes(1, 1)], 'ERR_PROXY_AUTH', 1],
    ['a method that was not offered', socks(), [bytes(5, 2)], 'ERR_PROXY_PROTOCOL'],
    ['SOCKS4', socks(), [bytes(0)], 'ERR_PROXY_PROTOCOL'],
    ['HTTP', socks(), [bytes('HTTP/1.1 400 Bad Request\r\n')], 'ERR_PROXY_PROTOCOL'],
    ['password version', socks(V4, { username: 'me' }), [bytes(5, 2), bytes(5, 0)], 'ERR_PROXY_PROTOCOL'],
    ['answered before asked', socks(), [bytes(5, 0, 5, 0, ...BOUND)], 'ERR_PROXY_PROTOCOL'],
    ['address type', socks(), [bytes(5, 0), bytes(5, 0, 0, 2)], 'ERR_PROXY_PROTOCOL'],
    ['reply and no more', socks(), [bytes(5, 0), bytes(5, 5)], 'ERR_PROXY_REFUSED', 5],
    ['reply of its own', socks(), [bytes(5, 0), bytes(5, 0x5b, ...BOUND)], 'ERR_PROXY_REFUSED', 0x5b],
    ['early bytes', socks(), [bytes(5, 0), bytes(5, 0, ...BOUND, 'SSH-2.0')], bytes('SSH-2.0')],
    ['an empty name', socks(), [bytes(5, 0), bytes(5, 0, 0, 3, 0, 0, 0, 'x')], bytes('x')],
    ['200', http(), head('HTTP/1.0 200 Connection established'), bytes('')],
    ['no reason, a length', http(), head('HTTP/1.1 204\nContent-Length: 5'), bytes('')],
    ['early bytes, HTTP', http(), [bytes('HTTP/1.1 200 \r\nA: b\r\n\r\n\r\n\r\n')], bytes('\r\n\r\n')],
    ['interim', http(), [...head('HTTP/1.1 100 Continue'), ...head('HTTP/1.1 200 OK')], bytes('')],
    ['interim in one', http(), [bytes('HTTP/1.1 102 \r\n\r\nHTTP/1.1 200 OK\r\n\r\nx')], bytes('x')],
    ['interim, then no', http(), head('HTTP/1.1 103 \n\nHTTP/1.1 502 Bad Gateway'), 'ERR_PROXY_REFUSED', 502],
    ['upgrade', http(), head('HTTP/1.1 101 Switching'), 'ERR_PROXY_REFUSED', 101],
    ['407', http(), head('HTTP/1.1 407 Proxy Authentication Required'), 'ERR_PROXY_AUTH', 407],
    ['401', http(), head('HTTP/1.1 401 Unauthorized'), 'ERR_PROXY_AUTH', 401],
    ['redirected', http(), head('HTTP/1.1 302 Found\nLocation: /'), 'ERR_PROXY_REFUSED', 302],
    ['escape', http(), head('HTTP/1.1 500 \x1b[2J\xff'), 'ERR_PROXY_REFUSED', 500],
    ['SSH', http(), [bytes('S')], 'ERR_PROXY_PROTOCOL'],
    ['HTTP/2', http(), [bytes('HTTP/2 ')], 'ERR_PROXY_PROTOCOL'],
    ['two digits', http(), head('HTTP/1.1 20 OK'), 'ERR_PROXY_PROTOCOL'],
    ['600', http(), head('HTTP/1.1 600 OK'), 'ERR_PROXY_PROTOCOL'],
    ['no end', http(), [bytes(`HTTP/1.1 200 OK\r\nA: ${'a'.repeat(16 * 1024)}`)], 'ERR_PROXY_PROTOCOL'],
    ['too long', http(), head(`HTTP/1.1 200 OK\nA: ${'a'.repeat(16 * 1024)}`), 'ERR_PROXY_PROTOCOL'],
    ['interim for ever', http(), [bytes('HTTP/1.1 100 \r\n\r\n'.repeat(1000))], 'ERR_PROXY_PROTOCOL'],
  ];
  for (const [name, talked, answers, expected, status] of cases) {
    const { rest, error } = course(talked, answers);
    if (typeof expected === 'string') {
      t.equal(error?.code, expected, name);
      t.equal((error as Partial<ProxyError>).proxyStatus, status, `${name}: status`);
      t.match(error?.message, /^[\x20-\x7e’]+$/, `${name}: the message can be printed`);
    } else {
      t.same({ rest, error }, { rest: expected, error: undefined }, name);
    }
  }
  t.match(course(socks(), [bytes(5, 0), bytes(5, 4)]).error?.message, 'host unreachable (4)');
  t.match(course(http(), head('HTTP/1.1 503 Busy')).error?.message, 'has not connected: 503 Busy');
  t.end();
});

t.test('however an answer is cut, it is the same', (t) => {
  const cuts = fc.array(fc.nat({ max: 600 }), { maxLength: 8 });
  const rest = fc.uint8Array({ maxLength: 40 }).map((early) => Buffer.from(early));
  const name = fc.string({ minLength: 0, maxLength: 255, unit: fc.constantFrom('a', '.', '-') });
  const bound = fc.oneof(
    fc.uint8Array({ minLength: 6, maxLength: 6 }).map((address) => Buffer.from([1, ...address])),
    fc.uint8Array({ minLength: 18, maxLength: 18 }).map((address) => Buffer.from([4, ...address])),
    name.map((host) => bytes(3, host.length, host, 0, 80)),
  );
  fc.assert(
    fc.property(bound, rest, cuts, fc.boolean(), (address, early, cuts, auth) => {
      const answers = auth ? [bytes(5, 2), bytes(1, 0)] : [bytes(5, 0)];
      const whole = Buffer.concat([Buffer.from([5, 0, 0]), address]);
      const talked = course(socks(V4, { username: 'me' }), [...answers, whole], cuts);
      const talkedOn = course(socks(V4, { username: 'me' }), [...answers, Buffer.concat([whole, early])]);
      return talked.rest?.length === 0 && talkedOn.rest!.equals(early);
    }),
    { numRuns },
  );
  const field = fc.string({ maxLength: 30, unit: fc.constantFrom('a', ':', ' ', '\n', '\r') });
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 599 }), fc.array(field), cuts, (status, fields, cuts) => {
      const lines = fields.map((text) => text.replace(/[\r\n]+/g, ' '));
      const answer = bytes(
        [`HTTP/1.1 ${status} why`, ...lines.map((line) => `X: ${line}`), '', ''].join('\r\n'),
      );
      const cut = course(http(), [answer], cuts);
      const whole = course(http(), [answer]);
      return (
        cut.error?.message === whole.error?.message &&
        (cut.rest !== undefined) === (status >= 200 && status < 300) &&
        (cut.error === undefined) === (status < 300 && status !== 101)
      );
    }),
    { numRuns },
  );
  t.end();
});

t.test('garbage is an error with a code, or is waited for no longer than 16 KiB', (t) => {
  const garbage = fc.array(fc.uint8Array({ minLength: 1, maxLength: 3000 }), { maxLength: 12 });
  const likely = fc.constantFrom(
    bytes(5),
    bytes(5, 0),
    bytes(5, 0, 0, 3),
    bytes('HTTP/1.1 2'),
    bytes('HTTP/1.'),
  );
  fc.assert(
    fc.property(garbage, likely, fc.boolean(), (pieces, first, viaHttp) => {
      const talked = viaHttp ? http() : socks(V4, { username: 'me' });
      const all = [first, ...pieces.map((piece) => Buffer.from(piece))];
      const { rest, error } = course(talked, all);
      const length = all.reduce((sum, piece) => sum + piece.length, 0);
      if (error) return /^ERR_PROXY_[A-Z]+$/.test(error.code);
      // A head without its end, a reply without its last byte.
      return rest !== undefined || length <= 16 * 1024;
    }),
    { numRuns },
  );
  t.end();
});
