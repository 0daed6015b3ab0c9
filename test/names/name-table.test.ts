// NameTable: what DNS answers teach, about whom, and for how long.
import * as dns from 'dns-packet';
import * as fc from 'fast-check';
import t from 'tap';
import { NameTable, type NameTableOptions, SyntheticAddresses } from '../../lib/index.ts';
import { answerAddresses, readService } from '../../lib/names/answer-addresses.ts';
import { readName } from '../../lib/names/wire-name.ts';

const runs = { numRuns: Number(process.env['FUZZ_RUNS'] ?? 2000) };

type Record_ = dns.Answer | { type: string; name: string; ttl?: number; data: Buffer };

function answer(question: string, answers: readonly Record_[], more: Partial<dns.Packet> = {}): Buffer {
  const questions = [{ type: 'A' as const, name: question }];
  return dns.encode({ type: 'response', questions, answers: answers as dns.Answer[], ...more });
}

const a = (name: string, data: string, ttl = 60): Record_ => ({ type: 'A', name, data, ttl });
const aaaa = (name: string, data: string, ttl = 60): Record_ => ({ type: 'AAAA', name, data, ttl });
const cname = (name: string, data: string): Record_ => ({ type: 'CNAME', name, data, ttl: 1 });

/** An HTTPS record (RFC 9460) with address hints. */
function https(name: string, target: string, v4: string[] = [], v6: Buffer = Buffer.alloc(0)): Record_ {
  const wire = Buffer.concat([
    ...(target === '' ? [] : target.split('.')).map((label) =>
      Buffer.from([label.length, ...Buffer.from(label)]),
    ),
    Buffer.from([0]),
  ]);
  const parameter = (key: number, value: Buffer): Buffer =>
    value.length === 0 ? value : Buffer.concat([Buffer.from([0, key, 0, value.length]), value]);
  const data = Buffer.concat([
    Buffer.from([0, 1]),
    wire,
    parameter(1, Buffer.from('\x02h2')),
    parameter(4, Buffer.from(v4.flatMap((each) => each.split('.').map(Number)))),
    parameter(6, v6),
  ]);
  return { type: 'UNKNOWN_65', name, ttl: 60, data };
}

const V6 = Buffer.from('20010db8000000000000000000000001', 'hex');
const found = (message: Buffer): string[] =>
  answerAddresses(message)?.addresses.map(({ address }) => address) ?? [];

t.test('what belongs to the question', async (t) => {
  t.same(
    answerAddresses(
      answer('Example.com', [a('example.COM', '192.0.2.1', 7), aaaa('example.com', '2001:DB8:0::1')]),
    ),
    {
      name: 'example.com',
      addresses: [
        { address: '192.0.2.1', ttl: 7000 },
        { address: '2001:db8::1', ttl: 60_000 },
      ],
    },
  );
  for (const [what, records, expected] of [
    ['nothing', [], []],
    ['another name', [a('other.com', '192.0.2.1')], []],
    [
      'aliases in any order',
      [a('c.net', '192.0.2.3'), cname('b.net', 'c.net'), cname('example.com', 'B.net')],
      ['192.0.2.3'],
    ],
    [
      'an alias loop',
      [cname('example.com', 'b.net'), cname('b.net', 'example.com'), a('b.net', '192.0.2.2')],
      ['192.0.2.2'],
    ],
    ['an alias of another name', [cname('other.com', 'b.net'), a('b.net', '192.0.2.2')], []],
    [
      'hints',
      [https('example.com', '', ['192.0.2.1', '192.0.2.2'], V6)],
      ['192.0.2.1', '192.0.2.2', '2001:db8::1'],
    ],
    [
      'a service',
      [https('example.com', 'svc.net', ['192.0.2.1']), a('svc.net', '192.0.2.9')],
      ['192.0.2.1', '192.0.2.9'],
    ],
    [
      'a service of another name',
      [https('other.com', 'svc.net', ['192.0.2.1']), a('svc.net', '192.0.2.9')],
      [],
    ],
    ['a broken service', [{ type: 'UNKNOWN_65', name: 'example.com', data: Buffer.from([0, 1, 9]) }], []],
  ] as const) {
    t.same(found(answer('example.com', records)), expected, what);
  }
  const additional = {
    additionals: [a('svc.net', '192.0.2.9'), a('other.net', '192.0.2.8')] as dns.Answer[],
  };
  t.same(found(answer('example.com', [https('example.com', 'svc.net')], additional)), ['192.0.2.9']);
  t.equal(answerAddresses(answer('_8443._https.example.com', []))!.name, 'example.com');
});

t.test('what is no answer', async (t) => {
  const good = [a('example.com', '192.0.2.1')];
  const questions = [
    { type: 'A' as const, name: 'example.com' },
    { type: 'A' as const, name: 'b.com' },
  ];
  for (const [what, message] of [
    ['a query', answer('example.com', good, { type: 'query' })],
    ['two questions', answer('example.com', good, { questions })],
    ['none', answer('example.com', good, { questions: [] })],
    ['an error', answer('example.com', good, { flags: 3 })],
    ['no host name', answer('not a name', [a('not a name', '192.0.2.1')])],
    ['cut', answer('example.com', good).subarray(0, -10)],
    ['nothing', Buffer.alloc(0)],
  ] as const) {
    t.equal(answerAddresses(message), undefined, what);
  }
});

t.test('names and services on the wire', async (t) => {
  t.same(readName(Buffer.from('\x03a-b\x01c\x00'), 0), { name: 'a-b.c', end: 7 });
  t.same(readName(Buffer.from('\x00'), 0), { name: '', end: 1 });
  for (const bad of ['', '\x03ab', '\x03a.b\x00', '\xc0\x00', '\x40', '\x01a'.repeat(128) + '\x00'])
    t.equal(readName(Buffer.from(bad, 'latin1'), 0), undefined, JSON.stringify(bad));
  t.same(readService(Buffer.from('\0\x01\0')), { target: '', hints: [] });
  for (const bad of ['', '\0', '\0\x01', '\0\x01\0\0', '\0\x01\0\0\x04\0\x04abc'])
    t.equal(readService(Buffer.from(bad)), undefined, JSON.stringify(bad));
  t.same(
    readService(Buffer.from('\0\x01\0\0\x04\0\x05abcde'))!.hints,
    ['97.98.99.100'],
    'half a hint is none',
  );
});

t.test('the name of a destination', async (t) => {
  const names = new NameTable();
  names.learn(answer('a.com', [cname('a.com', 'cdn.net'), a('cdn.net', '192.0.2.1')]), '10.0.0.1');
  names.learn(answer('b.com', [a('b.com', '192.0.2.2'), aaaa('b.com', '2001:db8::2')]), '::ffff:10.0.0.1');
  names.learn(Buffer.from('nonsense'), '10.0.0.1');
  const of = (address: string, client = '10.0.0.1'): string | undefined => names.of({ address }, client);
  t.equal(of('192.0.2.1'), 'a.com', 'the name that was asked, not where its alias leads');
  t.equal(of('::ffff:192.0.2.2'), 'b.com');
  t.equal(of('2001:DB8::2'), 'b.com');
  t.equal(names.of({ address: '192.0.2.2' }, { address: '10.0.0.1' }), 'b.com');
  t.equal(of('192.0.2.1', '10.0.0.2'), undefined, 'that client has not asked');
  t.equal(of('192.0.2.3'), undefined);
  names.learn(answer('c.com', [a('c.com', '192.0.2.1')]), '10.0.0.1');
  t.equal(of('192.0.2.1'), undefined, 'one of two, and nobody knows which');
  t.same(names.all({ address: '192.0.2.1' }, '10.0.0.1'), ['c.com', 'a.com']);
  names.learn(answer('a.com', [a('a.com', '192.0.2.9')]), '10.0.0.1');
  t.equal(of('192.0.2.9'), 'a.com', 'answers rotate');
  t.same(names.all({ address: '192.0.2.1' }, '10.0.0.1'), ['c.com', 'a.com'], 'and the earlier ones hold');
  t.throws(() => names.of({ address: 'a.com' }, '10.0.0.1'), { code: 'ERR_INVALID_ARG_TYPE' });
  t.throws(() => names.of({ address: '192.0.2.1' }, 'me'), { code: 'ERR_INVALID_ARG_TYPE' });

  const shared = new NameTable({ perClient: false });
  shared.learn(answer('a.com', [a('a.com', '192.0.2.1')]), '127.0.0.1');
  t.equal(shared.of({ address: '192.0.2.1' }, '10.0.0.1'), 'a.com');
});

t.test('for how long', async (t) => {
  let clock = Date.now();
  const { now: real } = Date;
  Date.now = () => clock;
  t.teardown(() => (Date.now = real));
  const advance = (ms: number): void => void (clock += ms);
  const names = new NameTable({ minTtl: 5000, maxTtl: 60_000 });
  const learn = (ttl: number, name = 'a.com'): void =>
    names.learn(answer(name, [a(name, '192.0.2.1', ttl)]), '10.0.0.1');
  const now = (): string[] => names.all({ address: '192.0.2.1' }, '10.0.0.1');
  for (const [ttl, ms] of [
    [0, 5000],
    [20, 20_000],
    [3600, 60_000],
  ] as const) {
    learn(ttl);
    advance(ms - 1);
    t.same(now(), ['a.com'], `${ttl} s`);
    advance(1);
    t.same(now(), [], `not longer than ${ms} ms`);
    t.equal(names.size, 0);
  }
  learn(50);
  learn(10);
  advance(30_000);
  t.same(now(), ['a.com'], 'the longer of two');
  learn(10, 'b.com');
  advance(15_000);
  t.same(now(), ['a.com']);
});

t.test('bounded', async (t) => {
  const names = new NameTable({ maxAddresses: 10, maxPerClient: 6 });
  const put = (client: string, number: number, name = 'a.com'): void =>
    names.add({ name, addresses: [{ address: `192.0.2.${number}`, ttl: 0 }] }, client);
  const known = (client: string): number[] =>
    Array.from({ length: 256 }, (_, i) => i).filter((i) => names.of({ address: `192.0.2.${i}` }, client));
  for (let i = 0; i < 8; i++) put('10.0.0.1', i);
  t.same(known('10.0.0.1'), [2, 3, 4, 5, 6, 7], 'the oldest of the client goes');
  put('10.0.0.1', 2);
  put('10.0.0.1', 8);
  t.same(known('10.0.0.1'), [2, 4, 5, 6, 7, 8], 'the oldest is the one that was learnt longest ago');
  for (let i = 0; i < 6; i++) put('10.0.0.2', i);
  t.equal(names.size, 10);
  t.same(
    known('10.0.0.1'),
    [2, 6, 7, 8].sort((x, y) => x - y),
    'the client that asked longest ago loses',
  );
  t.equal(known('10.0.0.2').length, 6);
  for (let i = 0; i < 40; i++) put('10.0.0.2', 0, `n${i}.com`);
  t.equal(names.all({ address: '192.0.2.0' }, '10.0.0.2').length, 32);
  const one = new NameTable({ maxAddresses: 1 });
  one.add({ name: 'a.com', addresses: [{ address: '192.0.2.1', ttl: 0 }] }, '10.0.0.1');
  one.add({ name: 'a.com', addresses: [{ address: '192.0.2.1', ttl: 0 }] }, '10.0.0.2');
  t.equal(one.size, 1);
  t.equal(one.of({ address: '192.0.2.1' }, '10.0.0.1'), undefined);
});

t.test('addresses that stand for names', async (t) => {
  const synthetic = new SyntheticAddresses();
  t.same(synthetic.addressesFor('A.com.'), { ipv4: '198.18.0.1', ipv6: 'fd64:6e73:6e61:6d65::1' });
  t.same(synthetic.addressesFor('b.com'), { ipv4: '198.18.0.2', ipv6: 'fd64:6e73:6e61:6d65::2' });
  t.same(synthetic.addressesFor('a.com')!.ipv4, '198.18.0.1', 'for good');
  t.equal(synthetic.addressesFor('not a name'), undefined);
  for (const [address, name] of [
    ['198.18.0.2', 'b.com'],
    ['fd64:6e73:6e61:6d65::1', 'a.com'],
    ['198.18.0.0', undefined],
    ['198.18.0.3', undefined],
    ['198.20.0.1', undefined],
    ['fd64:6e73:6e61:6d65:8000::1', undefined],
    ['fe80::1%lo', undefined],
  ] as const) {
    t.equal(synthetic.nameOf(address), name, address);
  }
  const names = new NameTable({ synthetic });
  t.equal(names.of({ address: '198.18.0.2' }, '10.9.9.9'), 'b.com', 'whoever asks');
  const again = new SyntheticAddresses(JSON.parse(JSON.stringify(synthetic)) as object);
  t.same(again.toJSON(), synthetic.toJSON());
  t.same(again.addressesFor('c.com')!.ipv4, '198.18.0.3', 'after a restart, too');

  const small = new SyntheticAddresses({ ipv4: '10.0.0.8/30', ipv6: 'fd00::/112' });
  t.same(small.addressesFor('a.com'), { ipv4: '10.0.0.9', ipv6: 'fd00::1' });
  t.same(small.addressesFor('b.com'), { ipv4: '10.0.0.10', ipv6: 'fd00::2' });
  t.equal(small.addressesFor('c.com'), undefined, 'none is left, and none is taken from another name');
  t.equal(small.addressesFor('a.com')!.ipv4, '10.0.0.9');

  for (const [options, code] of [
    [{ ipv4: 'fd00::/64' }, 'ERR_INVALID_ARG_TYPE'],
    [{ ipv4: 5 }, 'ERR_INVALID_ARG_TYPE'],
    [{ ipv6: 'fe80::%lo/64' }, 'ERR_INVALID_ARG_TYPE'],
    [{ ipv4: '10.0.0.0' }, 'ERR_OUT_OF_RANGE'],
    [{ ipv4: '10.0.0.0/31' }, 'ERR_OUT_OF_RANGE'],
    [{ ipv4: '10.0.0.1/8' }, 'ERR_OUT_OF_RANGE'],
    [{ ipv6: 'fd00::/113' }, 'ERR_OUT_OF_RANGE'],
    [{ names: 'a.com' }, 'ERR_INVALID_ARG_TYPE'],
    [{ names: ['a.com', 'A.com'] }, 'ERR_INVALID_ARG_VALUE'],
    [{ names: [5] }, 'ERR_INVALID_ARG_VALUE'],
    [{ names: ['no name'] }, 'ERR_INVALID_ARG_VALUE'],
  ] as const) {
    t.throws(() => new SyntheticAddresses(options as object), { code }, JSON.stringify(options));
  }
});

t.test('what are no options', async (t) => {
  for (const [options, code] of [
    [{ ttl: 5 }, 'ERR_INVALID_ARG_VALUE'],
    [{ perClient: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ minTtl: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ maxTtl: 5 }, 'ERR_OUT_OF_RANGE'],
    [{ maxAddresses: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ maxPerClient: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ synthetic: {} }, 'ERR_INVALID_ARG_TYPE'],
  ] as const) {
    t.throws(() => new NameTable(options as NameTableOptions), { code }, JSON.stringify(options));
  }
});

t.test('hostile answers teach nothing that they do not say', async () => {
  const seed = [
    answer('example.com', [
      cname('example.com', 'b.net'),
      a('b.net', '192.0.2.1'),
      https('b.net', 's.net', ['192.0.2.2'], V6),
    ]),
    answer('x.org', [aaaa('x.org', '2001:db8::5')]),
  ];
  const damaged = fc
    .tuple(
      fc.constantFrom(...seed),
      fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 6 }),
      fc.nat(200),
    )
    .map(([whole, changes, length]) => {
      const copy = Buffer.from(whole).subarray(0, length + 12);
      for (const [at, byte] of changes) if (at < copy.length) copy[at] = byte;
      return copy;
    });
  fc.assert(
    fc.property(
      fc.oneof(
        damaged,
        fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
      ),
      (message) => {
        const names = new NameTable({ maxAddresses: 100 });
        names.learn(message, '10.0.0.1');
        const said = answerAddresses(message);
        return (said?.addresses ?? []).every(
          ({ address }) => names.of({ address }, '10.0.0.1') === said!.name,
        );
      },
    ),
    runs,
  );
});
