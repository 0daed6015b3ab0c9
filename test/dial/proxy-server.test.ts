// What may be given as a proxy and as a destination behind it.
import t from 'tap';
import { checkProxyServer, readDestination } from '../../lib/dial/proxy-server.ts';

const proxy = { protocol: 'socks5', address: '127.0.0.1', port: 1080 };
const http = { ...proxy, protocol: 'http' };

t.test('proxies', (t) => {
  const long = 'x'.repeat(256);
  for (const good of [
    proxy,
    { ...http, username: 'me', password: 'a:b' },
    { ...proxy, address: 'proxy.example', username: 'x'.repeat(255), password: '' },
    { ...proxy, username: 'a:b', password: undefined },
    { ...http, username: long, password: long },
  ]) {
    t.doesNotThrow(() => checkProxyServer(good));
  }
  const bad: [unknown, string, RegExp][] = [
    [undefined, 'ERR_INVALID_ARG_TYPE', /"proxy"/],
    [null, 'ERR_INVALID_ARG_TYPE', /"proxy"/],
    [{ ...proxy, user: 'me' }, 'ERR_INVALID_ARG_VALUE', /"proxy" has no property "user"/],
    [{ ...proxy, protocol: 'socks4' }, 'ERR_OUT_OF_RANGE', /'socks5' or 'http'/],
    [{ ...proxy, address: '' }, 'ERR_INVALID_ARG_TYPE', /proxy\.address/],
    [{ ...proxy, port: 0 }, 'ERR_OUT_OF_RANGE', /proxy\.port/],
    [{ ...proxy, username: 7 }, 'ERR_INVALID_ARG_TYPE', /proxy\.username/],
    [{ ...proxy, username: '' }, 'ERR_INVALID_ARG_VALUE', /empty/],
    [{ ...proxy, password: 'x' }, 'ERR_INVALID_ARG_VALUE', /without/],
    [{ ...proxy, username: long }, 'ERR_INVALID_ARG_VALUE', /255 bytes/],
    [{ ...proxy, username: 'me', password: 'ü'.repeat(128) }, 'ERR_INVALID_ARG_VALUE', /255 bytes/],
    [{ ...http, username: 'a:b' }, 'ERR_INVALID_ARG_VALUE', /colon/],
    [{ ...http, username: 'a\r\nX: y' }, 'ERR_INVALID_ARG_VALUE', /control/],
    [{ ...http, username: 'a', password: '\x7f' }, 'ERR_INVALID_ARG_VALUE', /control/],
  ];
  for (const [value, code, message] of bad)
    t.throws(() => checkProxyServer(value), { code, message }, JSON.stringify(value));
  t.throws(() => checkProxyServer(7, 'verdict.via'), { message: /"verdict\.via"/ });
  t.end();
});

t.test('destinations', (t) => {
  const good: [object, object][] = [
    [
      { address: '::ffff:192.0.2.1', port: 80 },
      { address: '192.0.2.1', port: 80 },
    ],
    [
      { address: '2001:DB8::0', port: 80 },
      { address: '2001:db8::', port: 80 },
    ],
    [
      { name: 'EXAMPLE.com', port: 80 },
      { name: 'example.com', port: 80 },
    ],
    [
      { name: 'bücher.de', port: 80 },
      { name: 'xn--bcher-kva.de', port: 80 },
    ],
    [
      { name: 'a_b.onion.', port: 80 },
      { name: 'a_b.onion.', port: 80 },
    ],
    [
      { name: 'x'.repeat(255), port: 1 },
      { name: 'x'.repeat(255), port: 1 },
    ],
  ];
  for (const [given, told] of good) t.same(readDestination(given), told);
  const bad: [unknown, string][] = [
    [null, 'ERR_INVALID_ARG_TYPE'],
    [{ port: 80 }, 'ERR_INVALID_ARG_VALUE'],
    [{ address: '192.0.2.1', name: 'a', port: 80 }, 'ERR_INVALID_ARG_VALUE'],
    [{ address: '192.0.2.1' }, 'ERR_INVALID_ARG_TYPE'],
    [{ address: '192.0.2.1', port: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ address: 'example.com', port: 80 }, 'ERR_INVALID_ARG_TYPE'],
    [{ address: 'fe80::1%lo', port: 80 }, 'ERR_INVALID_ARG_VALUE'],
    ...[
      'x'.repeat(256),
      'ü'.repeat(250),
      '',
      'a b',
      'a\r\nb',
      'a/b',
      'a:80',
      'a@b',
      'x%41',
      'a\0b',
      'xn--a',
      '*.a',
    ].map((name): [unknown, string] => [{ name, port: 80 }, 'ERR_INVALID_ARG_TYPE']),
    ...['192.0.2.1', '::1', '[::1]', 'fe80::1%lo'].map((name): [unknown, string] => [
      { name, port: 80 },
      'ERR_INVALID_ARG_VALUE',
    ]),
    ...['127.1', '0x7f000001', '2130706433', '１２７.0.0.1'].map((name): [unknown, string] => [
      { name, port: 80 },
      'ERR_INVALID_ARG_TYPE',
    ]),
  ];
  for (const [value, code] of bad) t.throws(() => readDestination(value), { code }, JSON.stringify(value));
  t.end();
});
