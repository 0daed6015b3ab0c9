// The parser of the PROXY protocol's header: what it takes, what it refuses, every cut, any bytes.
import { constants } from 'node:os';
import * as fc from 'fast-check';
import t from 'tap';
import { parseProxyHeader } from '../../lib/recover/proxy-header.ts';
import { type End, tlv, v2, v2Tcp } from '../fixtures/proxy-headers.ts';

const { EAFNOSUPPORT, EBADMSG, EMSGSIZE } = constants.errno;
const numRuns = Number(process.env['FUZZ_RUNS'] ?? 200);
const V4 = {
  client: { address: '192.0.2.1', port: 40000 },
  destination: { address: '198.51.100.7', port: 443 },
};
const V6 = {
  client: { address: '2001:db8::1', port: 1 },
  destination: { address: '2001:db8::7', port: 65535 },
};
const four = (end: object): object => ({ ...end, family: 'IPv4' });
const six = (end: object): object => ({ ...end, family: 'IPv6' });

t.test('headers', (t) => {
  const cases: [string, Buffer | string, { version: 1 | 2; client?: End; destination?: End }][] = [
    ['TCP4', 'PROXY TCP4 192.0.2.1 198.51.100.7 40000 443\r\n', { version: 1, ...V4 }],
    ['TCP6', 'PROXY TCP6 2001:db8:0::1 2001:DB8::7 1 65535\r\n', { version: 1, ...V6 }],
    ['mapped', 'PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 40000 443\r\n', { version: 1, ...V4 }],
    ['unknown', 'PROXY UNKNOWN\r\n', { version: 1 }],
    ['unknown, and more', 'PROXY UNKNOWN ffff:f:f:f 1 2 3 4 5\r\n', { version: 1 }],
    ['v2, IPv4', v2Tcp(V4.client, V4.destination), { version: 2, ...V4 }],
    ['v2, IPv6', v2Tcp(V6.client, V6.destination), { version: 2, ...V6 }],
    ['LOCAL', v2(0x20, 0x00, Buffer.alloc(0)), { version: 2 }],
    ['LOCAL with an address', v2(0x20, 0x11, Buffer.alloc(12, 1)), { version: 2 }],
    ['LOCAL with what nobody knows', v2(0x20, 0x11, Buffer.alloc(5, 1)), { version: 2 }],
    ['UNSPEC', v2(0x21, 0x00, Buffer.alloc(7, 1)), { version: 2 }],
  ];
  for (const [name, bytes, expected] of cases) {
    const { client, destination } = expected;
    const family = client?.address.includes(':') ? six : four;
    const ends = client ? { client: family(client), destination: family(destination!) } : {};
    const header = Buffer.from(bytes as string);
    t.same(parseProxyHeader(header), { version: expected.version, ...ends, tlvs: [] }, name);
    t.same(
      parseProxyHeader(Buffer.concat([header, Buffer.from('PROXY GET \r\n')])),
      parseProxyHeader(header),
      `${name}: what follows`,
    );
    for (let cut = 0; cut < header.length; cut++) {
      const need = parseProxyHeader(header.subarray(0, cut)) as number;
      if (!(need > cut && need <= header.length)) t.fail(`${name}, cut at ${cut}: ${need}`);
    }
  }
  t.end();
});

t.test('type-length-values', (t) => {
  const unique = Buffer.from([0, 1, 2, 255]);
  const given = [tlv(0x02, 'example.com'), tlv(0x05, unique), tlv(0x04, ''), tlv(0xe0, 'x')];
  t.match(parseProxyHeader(v2Tcp(V4.client, V4.destination, ...given)), {
    authority: 'example.com',
    uniqueId: unique,
    tlvs: [
      { type: 2, value: Buffer.from('example.com') },
      { type: 5, value: unique },
      { type: 4, value: Buffer.alloc(0) },
      { type: 0xe0, value: Buffer.from('x') },
    ],
  });
  const zeroed = v2Tcp(V4.client, V4.destination, tlv(0x03, Buffer.alloc(4)));
  const right = v2Tcp(V4.client, V4.destination, tlv(0x03, crc(zeroed)));
  t.type(parseProxyHeader(right), 'object', 'a right checksum');
  right[20]! ^= 1;
  t.equal(parseProxyHeader(right), -EBADMSG, 'a bit that is another');
  t.end();
});

/** CRC-32C with a table, as the parser has none. */
function crc(bytes: Buffer): Buffer {
  const table = Array.from({ length: 256 }, (_, n) => {
    let value = n;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
    return value >>> 0;
  });
  let sum = 0xffffffff;
  for (const byte of bytes) sum = (table[(sum ^ byte) & 255]! ^ (sum >>> 8)) >>> 0;
  const out = Buffer.alloc(4);
  out.writeUInt32BE((sum ^ 0xffffffff) >>> 0);
  return out;
}

t.test('the table knows RFC 3720’s example', (t) => {
  t.same(crc(Buffer.alloc(32)), Buffer.from([0x8a, 0x91, 0x36, 0xaa]));
  t.end();
});

t.test('what is no header', (t) => {
  const addresses = Buffer.alloc(216, 1);
  const mixed = Buffer.concat([
    Buffer.from('00000000000000000000ffffc0000201', 'hex'),
    Buffer.from('20010db8000000000000000000000007', 'hex'),
    Buffer.from([0, 1, 0, 2]),
  ]);
  const cases: [string | Buffer, number][] = [
    ['GET / HTTP/1.1\r\n', EBADMSG],
    ['\x16\x03\x01', EBADMSG],
    ['proxy TCP4 ', EBADMSG],
    ['PROXY\r\n', EBADMSG],
    ['PROXY \r\n', EBADMSG],
    ['PROXY TCP4\r\n', EBADMSG],
    ['PROXY TCP5 192.0.2.1 198.51.100.7 1 2\r\n', EBADMSG],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n', EBADMSG],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n', EBADMSG],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n', EBADMSG],
    ['PROXY TCP4  192.0.2.1 198.51.100.7 1 2\r\n', EBADMSG],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 1 65536\r\n', EBADMSG],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n', EBADMSG],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 -1 2\r\n', EBADMSG],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 100000 2\r\n', EBADMSG],
    ['PROXY TCP4 192.0.2 198.51.100.7 1 2\r\n', EBADMSG],
    ['PROXY TCP4 ::1 ::2 1 2\r\n', EBADMSG],
    ['PROXY TCP6 192.0.2.1 198.51.100.7 1 2\r\n', EBADMSG],
    ['PROXY TCP6 ::ffff:192.0.2.1 2001:db8::7 1 2\r\n', EBADMSG],
    ['PROXY TCP6 fe80::1%lo fe80::2 1 2\r\n', EBADMSG],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 1 2\n', EBADMSG],
    [`PROXY TCP4 192.0.2.1\0 198.51.100.7 1 2\r\n`, EBADMSG],
    [`PROXY UNKNOWN ${'x'.repeat(200)}\r\n`, EBADMSG],
    [`PROXY UNKNOWN ${'x'.repeat(92)}`, 0],
    [v2(0x11, 0x11, addresses), EBADMSG],
    [v2(0x22, 0x11, addresses), EBADMSG],
    [v2(0x21, 0x14, addresses), EBADMSG],
    [v2(0x21, 0x41, addresses), EBADMSG],
    [v2(0x21, 0x12, addresses), EAFNOSUPPORT],
    [v2(0x21, 0x31, addresses), EAFNOSUPPORT],
    [v2(0x21, 0x32, addresses), EAFNOSUPPORT],
    [v2(0x21, 0x11, Buffer.alloc(11)), EBADMSG],
    [v2(0x21, 0x21, Buffer.alloc(35)), EBADMSG],
    [v2(0x21, 0x21, mixed), EBADMSG],
    [v2(0x21, 0x11, Buffer.alloc(16384)), EMSGSIZE],
    [v2Tcp(V4.client, V4.destination, Buffer.from([1])), EBADMSG],
    [v2Tcp(V4.client, V4.destination, Buffer.from([1, 0, 1])), EBADMSG],
    [v2Tcp(V4.client, V4.destination, tlv(3, 'abc')), EBADMSG],
  ];
  for (const [bytes, errno] of cases) {
    const parsed = parseProxyHeader(Buffer.from(bytes as string, 'latin1'));
    if (errno === 0) t.ok((parsed as number) > 0, 'not yet');
    else t.equal(parsed, -errno, JSON.stringify(String(bytes)).slice(0, 70));
  }
  t.end();
});

t.test('any bytes: an answer within them, or none', (t) => {
  const start = fc.constantFrom(
    Buffer.alloc(0),
    Buffer.from('PROXY TCP4 '),
    v2(0x21, 0x11, Buffer.alloc(0)).subarray(0, 12),
  );
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 300 }), (first, rest) => {
      const bytes = Buffer.concat([first, rest]);
      const parsed = parseProxyHeader(bytes);
      if (typeof parsed === 'number') return parsed < 0 || parsed > bytes.length;
      return parsed.tlvs.every(({ value }) => value.length <= bytes.length);
    }),
    { numRuns },
  );
  t.end();
});
