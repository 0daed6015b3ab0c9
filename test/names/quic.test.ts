// QUIC's first datagrams: the RFCs' own, those of real clients, and what a client may make of them.
import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import t from 'tap';
import { inspectQuic, type QuicFirstBytes } from '../../lib/index.ts';
import { readVarint } from '../../lib/names/quic-frames.ts';
import { alpn, ech, helloMessage, HOSTILE_HELLOS, serverName } from '../fixtures/hellos.ts';
import { crypto, datagram, ID, initial, type InitialFields, varint } from '../fixtures/quic-packets.ts';

const numRuns = Number(process.env['FUZZ_RUNS'] ?? 200);

const RECORDED = Object.fromEntries(
  Object.entries(
    JSON.parse(
      readFileSync(new URL('../../../test/fixtures/quic-hellos.json', import.meta.url), 'utf8'),
    ) as Record<string, string[]>,
  ).map(([name, datagrams]) => [name, datagrams.map((text) => Buffer.from(text, 'base64'))]),
) as Record<'rfc9001' | 'rfc9369' | 'ngtcp2' | 'chromium', Buffer[]>;

const NOTHING: QuicFirstBytes = { protocol: 'udp', ech: false, complete: true };
const WAITING: QuicFirstBytes = { protocol: 'quic', version: 1, ech: false, complete: false };
const NAMELESS: QuicFirstBytes = { protocol: 'quic', version: 1, ech: false, complete: true };
const HELLO = helloMessage({ extensions: [serverName('A.Example.'), alpn('h3', 'hq')] });
const OTHER = helloMessage({ extensions: [serverName('b.example'), alpn('h3')] });
const ANOTHER_ID = Buffer.from('0102030405060708', 'hex');

/** One datagram with these frames. */
const sent = (...frames: Buffer[]): Buffer => datagram({ frames: Buffer.concat(frames) });
/** The same by other rules. */
const sentAs = (fields: Omit<InitialFields, 'frames'>, length = 1200): Buffer =>
  datagram({ ...fields, frames: crypto(0, HELLO) }, length);
const nameOf = (...datagrams: Buffer[]): string | undefined => inspectQuic(datagrams).name;

t.test('RFC 9001, A.2, and RFC 9369, A.2', async (t) => {
  for (const [version, datagrams] of [
    [1, RECORDED.rfc9001],
    [2, RECORDED.rfc9369],
  ] as const) {
    t.same(inspectQuic(datagrams), {
      protocol: 'quic',
      version,
      name: 'example.com',
      alpn: ['alpn'],
      tlsVersions: ['TLSv1.3'],
      ech: false,
      complete: true,
    });
    t.equal(datagrams[0]!.length, 1200);
  }
});

t.test('real clients', async (t) => {
  const ngtcp2 = {
    protocol: 'quic',
    version: 1,
    name: 'localhost',
    alpn: ['h3'],
    ech: false,
    complete: true,
  };
  t.match(inspectQuic(RECORDED.ngtcp2.slice(0, 1)), ngtcp2);
  t.match(inspectQuic(RECORDED.ngtcp2), ngtcp2, 'and its retransmission');
  const [first, second] = RECORDED.chromium as [Buffer, Buffer];
  t.same(
    inspectQuic([first]),
    WAITING,
    'Chromium: a hybrid key share, in pieces out of order, in two datagrams',
  );
  t.same(inspectQuic([second]), WAITING);
  const whole = { protocol: 'quic', version: 1, name: 'shop.test', alpn: ['h3'], ech: true, complete: true };
  for (const order of [
    [first, second],
    [second, first],
    [first, first, second],
    [second, first, second],
  ])
    t.match(inspectQuic(order), whole);
});

t.test('what a client may do', async (t) => {
  const first = { ...NAMELESS, name: 'a.example', alpn: ['h3', 'hq'], tlsVersions: ['TLSv1.2'] };
  t.same(inspectQuic([sent(crypto(0, HELLO))]), first);
  t.same(inspectQuic([new Uint8Array(sent(crypto(0, HELLO)))]), first, 'any Uint8Array');
  const ping = Buffer.of(1);
  const ack = Buffer.concat([Buffer.of(2), varint(5), varint(0), varint(1), varint(0), varint(0), varint(0)]);
  const counted = Buffer.concat([Buffer.of(3), ...[0, 0, 0, 0, 1, 2, 3].map((n) => varint(n))]);
  const close = Buffer.concat([Buffer.of(0x1c), varint(1), varint(6), varint(2), Buffer.from('no')]);
  t.equal(nameOf(sent(ping, ack, counted, crypto(0, HELLO), close)), 'a.example', 'other frames');
  const pieces = Array.from({ length: 12 }, (_, i) => crypto(i * 9, HELLO.subarray(i * 9, i * 9 + 9)));
  pieces.push(crypto(108, HELLO.subarray(108)));
  t.equal(nameOf(sent(...pieces.toReversed())), 'a.example', 'pieces, backwards');
  t.equal(
    nameOf(sent(crypto(0, HELLO.subarray(0, 60)), crypto(30, HELLO.subarray(30)))),
    'a.example',
    'overlap',
  );
  for (const numberSize of [1, 2, 3, 4])
    t.equal(nameOf(sentAs({ numberSize, number: 3 })), 'a.example', `a number of ${numberSize} bytes`);
  t.equal(
    nameOf(sentAs({ token: Buffer.alloc(100, 1), source: Buffer.alloc(20, 2) })),
    'a.example',
    'a token',
  );
  t.equal(nameOf(sentAs({ id: Buffer.alloc(20, 7), version: 2 }, 1452)), 'a.example', 'the longest ID');
  // Like an Initial, but of another type and without a token.
  const early = initial({ frames: Buffer.alloc(40) }).filter((_, at) => at !== 15);
  early[0] = 0xd0;
  const after = Buffer.concat([early, sent(crypto(0, HELLO))]);
  t.equal(nameOf(after), 'a.example', 'behind a 0-RTT packet');
  const several = [0, 1].map((i) =>
    initial({ number: i, frames: crypto(i * 80, HELLO.subarray(i * 80, 80 + i * 800)) }),
  );
  t.equal(
    nameOf(Buffer.concat([...several, Buffer.alloc(1200)])),
    'a.example',
    'two packets in one datagram',
  );
  t.match(inspectQuic([sent(crypto(0, helloMessage({ extensions: [serverName('a.b'), ech] })))]), {
    name: 'a.b',
    ech: true,
  });
  const retried = datagram({ id: ANOTHER_ID, token: Buffer.alloc(16), frames: crypto(0, HELLO) });
  t.equal(nameOf(sent(crypto(0, HELLO.subarray(0, 9))), retried), 'a.example', 'after a Retry');
  const toServer = datagram({ id: ANOTHER_ID, keysOf: ID, frames: crypto(9, HELLO.subarray(9)) });
  t.equal(
    nameOf(sent(crypto(0, HELLO.subarray(0, 9))), toServer),
    'a.example',
    'the ID that the server chose',
  );
  t.same(inspectQuic([early]), { ...NOTHING, complete: false }, 'a 0-RTT packet first');
});

t.test('no name', async (t) => {
  t.same(inspectQuic([]), { ...NOTHING, complete: false });
  const unknown = sent(crypto(0, HELLO));
  unknown.writeUInt32BE(0x1a2a3a4a, 1);
  const negotiation = Buffer.concat([
    Buffer.of(0xc0, 0, 0, 0, 0, 8),
    ID,
    Buffer.of(0),
    Buffer.of(0, 0, 0, 1),
  ]);
  const retry = Buffer.concat([Buffer.of(0xf0, 0, 0, 0, 1, 8), ID, Buffer.of(0), Buffer.alloc(40)]);
  const fixed = sent(crypto(0, HELLO));
  fixed[0]! &= 0xbf;
  for (const [label, bytes] of Object.entries({
    'an unknown version': unknown,
    'version negotiation': negotiation,
    'a Retry': retry,
    'a short header': Buffer.alloc(1200, 0x40),
    'the fixed bit is not set': fixed,
    'nothing at all': Buffer.alloc(0),
    'the header alone': sent(crypto(0, HELLO)).subarray(0, 6),
    'an ID of 21 bytes': sentAs({ id: Buffer.alloc(21) }),
    'a source ID of 21 bytes': sentAs({ source: Buffer.alloc(21) }),
    'a token that ends nowhere': Buffer.concat([sentAs({}).subarray(0, 15), Buffer.of(0xff)]),
    'a packet that ends nowhere': sent(crypto(0, HELLO)).subarray(0, 1199),
    DNS: Buffer.from('1234010000010000000000000161076578616d706c6500000100010000', 'hex'),
  }))
    t.same(inspectQuic([bytes]), NOTHING, label);

  const undecided = { ...NOTHING, complete: false };
  t.same(inspectQuic([sentAs({}, 1199)]), undecided, 'a datagram that servers discard');
  t.same(inspectQuic([sentAs({ id: Buffer.alloc(7) })]), undecided, 'an ID that is too short');
  t.same(inspectQuic([sentAs({ keysOf: ANOTHER_ID })]), undecided, 'the keys of another connection');
  t.same(inspectQuic([sentAs({ reserved: 1 })]), undecided, 'reserved bits');
  const short = Buffer.concat([initial({ frames: Buffer.alloc(0), numberSize: 1 }), Buffer.alloc(1200)]);
  t.same(inspectQuic([short]), undecided, 'too short for a sample');
  const foreign = Buffer.concat([initial({ frames: Buffer.alloc(20) }), sentAs({ id: ANOTHER_ID })]);
  t.same(inspectQuic([foreign]), WAITING, 'a packet of another connection beside it');
  const many = Array.from({ length: 5 }, (_, i) =>
    initial({
      number: i,
      frames: Buffer.concat([crypto(0, i < 4 ? HELLO.subarray(0, 9) : HELLO), Buffer.alloc(9)]),
    }),
  );
  t.same(
    inspectQuic([Buffer.concat([...many, Buffer.alloc(1200)])]),
    WAITING,
    'the fifth packet of a datagram',
  );

  for (const [label, frames] of Object.entries({
    'a frame that an Initial may not carry': Buffer.concat([crypto(0, HELLO), Buffer.of(8, 0)]),
    'a frame that is not whole': Buffer.concat([crypto(0, HELLO), Buffer.of(6, 0x44, 0xff, 0x7f, 0xff)]),
    'a number that is too large': Buffer.concat([crypto(0, HELLO), Buffer.of(6), Buffer.alloc(8, 0xff)]),
    'an offset beyond all bounds': Buffer.concat([crypto(0, HELLO), crypto(16_384, Buffer.of(1))]),
    'another message': crypto(0, helloMessage({ type: 2 })),
    'another message, the beginning': crypto(0, Buffer.of(2)),
    'one message more': crypto(0, Buffer.concat([HELLO, Buffer.of(11)])),
    'a longer one than is waited for': crypto(0, Buffer.of(1, 0, 0x40, 0)),
    'a message that is told in two ways': Buffer.concat([crypto(0, HELLO), crypto(50, Buffer.of(255))]),
  }))
    t.same(inspectQuic([sent(frames)]), NAMELESS, label);
  for (const [label, bytes] of Object.entries(HOSTILE_HELLOS)) {
    if (bytes.length > 1000 || bytes.length < 10) continue;
    t.equal(nameOf(sent(crypto(0, bytes.subarray(5)))), undefined, label);
  }

  const second = datagram({ id: ANOTHER_ID, frames: crypto(0, OTHER) });
  const both = inspectQuic([sent(crypto(0, HELLO)), second]);
  t.notOk('name' in both, 'two connections that ask for two names');
  const ids = Array.from({ length: 5 }, (_, i) => Buffer.alloc(8, i + 1));
  const begun = ids.map((id, i) => datagram({ id, frames: crypto(0, i < 4 ? HELLO.subarray(0, 9) : HELLO) }));
  t.same(inspectQuic(begun), WAITING, 'who begins for the fifth time');
  const slow = Array.from({ length: 17 }, (_, i) => sent(crypto(i * 2, HELLO.subarray(i * 2, i * 2 + 2))));
  t.equal(inspectQuic(slow.slice(0, 15)).complete, false);
  t.same(inspectQuic([...slow, sent(crypto(0, HELLO))]), NAMELESS, 'sixteen datagrams and no more');
});

t.test('arguments', async (t) => {
  for (const wrong of [undefined, 'abc', Buffer.alloc(1), [1], [Buffer.alloc(1), 'abc']])
    t.throws(() => inspectQuic(wrong as unknown as Buffer[]), { code: 'ERR_INVALID_ARG_TYPE' });
});

t.test('numbers', async (t) => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.constantFrom(1, 2, 4, 8), (value, size) => {
      if (value >= 2 ** (8 * size - 2)) return;
      t.same(readVarint(Buffer.concat([Buffer.of(0), varint(value, size)]), 1), { value, end: 1 + size });
    }),
    { numRuns },
  );
  t.equal(readVarint(Buffer.of(0x40), 0), undefined);
  t.equal(readVarint(Buffer.alloc(0), 0), undefined);
});

/** The hello cut at these places. */
function cut(places: readonly number[], hello: Buffer): Buffer[] {
  const ends = [...new Set(places.map((place) => 1 + (place % (hello.length - 1))))].sort((a, b) => a - b);
  return [0, ...ends].map((at, i) => crypto(at, hello.subarray(at, ends[i] ?? hello.length)));
}

t.test(
  'however it is cut, mixed and sent twice: its name or none, and its name when all is there',
  async () => {
    const shape = fc.record({
      places: fc.array(fc.nat(200), { maxLength: 6 }),
      /** To which datagram each piece goes. */
      homes: fc.array(fc.nat(3), { minLength: 8, maxLength: 8 }),
      order: fc.array(fc.nat(3), { minLength: 4, maxLength: 8 }),
      version: fc.constantFrom(1 as const, 2 as const),
    });
    fc.assert(
      fc.property(shape, ({ places, homes, order, version }) => {
        const pieces = cut(places, HELLO);
        const datagrams = [0, 1, 2, 3].map((home) =>
          datagram({
            version,
            number: home,
            frames: Buffer.concat(pieces.filter((_, i) => homes[i] === home).toReversed()),
          }),
        );
        const { name, complete } = inspectQuic(order.map((at) => datagrams[at]!));
        const all = pieces.every((_, i) => order.includes(homes[i]!));
        if (name !== (all ? 'a.example' : undefined) || complete !== all)
          throw new Error(`${name}, ${complete}`);
      }),
      { numRuns },
    );
  },
);

t.test('whatever is changed on the way: its name or none', async () => {
  const sources = [...Object.values(RECORDED), [sent(crypto(0, HELLO))]];
  fc.assert(
    fc.property(
      fc.nat(sources.length - 1),
      fc.array(fc.record({ which: fc.nat(1), at: fc.nat(1249), flip: fc.integer({ min: 1, max: 255 }) }), {
        minLength: 1,
        maxLength: 4,
      }),
      fc.nat(1250),
      (source, changes, length) => {
        const whole = inspectQuic(sources[source]!).name;
        const changed = sources[source]!.map((bytes) => Buffer.from(bytes));
        for (const { which, at, flip } of changes) {
          const one = changed[which % changed.length]!;
          one[at % one.length]! ^= flip;
        }
        for (const datagrams of [changed, changed.map((one) => one.subarray(0, length))]) {
          const { name } = inspectQuic(datagrams);
          if (name !== undefined && name !== whole) throw new Error(`${name} instead of ${whole}`);
        }
      },
    ),
    { numRuns },
  );
});
