// NamePolicy: which rule speaks of what, which wins, and what is said of it.
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import * as fc from 'fast-check';
import t from 'tap';
import { connect, NamePolicy, type NamePolicyRules, type PolicySubject } from '../../lib/index.ts';
import { canonicalName, writtenName } from '../../lib/host-name.ts';
import { egressRefusal, checkEgress } from '../../lib/policy/egress.ts';
import { arbitraryRules, arbitrarySubject, byTheBook } from '../fixtures/policy-model.ts';

const runs = { numRuns: Number(process.env['FUZZ_RUNS'] ?? 800) };

t.test('the one spelling of a name', async (t) => {
  const label = 'x'.repeat(63);
  const longest = [label, label, label, 'x'.repeat(61)].join('.');
  for (const [text, name] of [
    ['Example.COM', 'example.com'],
    ['example.com.', 'example.com'],
    ['_sip._tcp.example.com', '_sip._tcp.example.com'],
    ['localhost', 'localhost'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
    [longest, longest],
    [`${longest}.`, longest],
    [`${longest}x`, undefined],
    [`${label}x.com`, undefined],
    ['', undefined],
    ['.', undefined],
    ['example.com..', undefined],
    ['a..b', undefined],
    ['a\0.example.com', undefined],
    ['a b.com', undefined],
    ['*.example.com', undefined],
    ['127.0.0.1', undefined],
    ['127.1', undefined],
    ['0x7f000001', undefined],
    ['a.0x', undefined],
    ['1.2.3.4.', undefined],
    ['::1', undefined],
    ['bücher.example', undefined],
  ] as const) {
    t.equal(canonicalName(text), name, text);
  }
  t.equal(writtenName('Bücher.example'), 'xn--bcher-kva.example');
  t.equal(writtenName('a b.example'), undefined);
  t.equal(writtenName('bü cher.example'), undefined);
});

t.test('what a rule speaks of', async (t) => {
  const named = (name: string, port = 443): PolicySubject => ({ name, port, protocol: 'tls' });
  const at = (address: string, port = 443): PolicySubject => ({ address, port, protocol: 'tcp' });
  for (const [rule, yes, no] of [
    ['example.com', [named('example.com'), named('EXAMPLE.com.')], [named('a.example.com'), at('192.0.2.1')]],
    [
      '*.example.com',
      [named('a.example.com'), named('a.b.example.com')],
      [named('example.com'), named('aexample.com')],
    ],
    ['*', [named('com')], [at('192.0.2.1'), named('192.0.2.1'), { name: 'a.com', ech: true }]],
    ['Bücher.example', [named('xn--bcher-kva.example')], [named('bucher.example')]],
    ['example.com:443', [named('example.com')], [named('example.com', 80), { name: 'example.com' }]],
    ['*:8000-8999', [named('a.b', 8000), named('a.b', 8999)], [named('a.b', 7999), named('a.b', 9000)]],
    [
      'example.com/tls',
      [named('example.com')],
      [{ name: 'example.com', protocol: 'http' }, { name: 'example.com' }],
    ],
    ['example.com:443/tcp', [named('example.com')], [{ ...named('example.com'), protocol: 'quic' }]],
    [
      '*/udp',
      [
        { name: 'a.b', protocol: 'quic' },
        { name: 'a.b', protocol: 'udp' },
      ],
      [named('a.b')],
    ],
    [
      '192.0.2.0/24/http',
      [
        { ...at('192.0.2.1'), protocol: 'http' },
        { ...at('192.0.2.1'), protocol: 'http2' },
      ],
      [at('192.0.2.1'), { ...at('192.0.2.1'), protocol: 'tls' }, { address: '192.0.2.1' }],
    ],
    [
      '192.0.2.0/24/http2',
      [{ ...at('192.0.2.1'), protocol: 'http2' }],
      [{ ...at('192.0.2.1'), protocol: 'http' }, at('192.0.2.1')],
    ],
    [
      '192.0.2.0/24/tcp',
      (['tcp', 'tls', 'http', 'http2', 'other', 'silent'] as const).map((protocol) => ({
        ...at('192.0.2.1'),
        protocol,
      })),
      [
        { ...at('192.0.2.1'), protocol: 'udp' },
        { ...at('192.0.2.1'), protocol: 'quic' },
      ],
    ],
    ['10.0.0.0/8', [at('10.255.0.1'), at('::ffff:10.0.0.1')], [at('11.0.0.1'), at('a00::1'), named('a.b')]],
    ['::ffff:10.0.0.0/104', [at('10.255.0.1')], [at('11.0.0.1')]],
    ['10.1.2.3:22', [at('10.1.2.3', 22)], [at('10.1.2.3'), at('10.1.2.4', 22)]],
    ['::/0', [at('2001:db8::1'), at('::')], [at('10.1.2.3')]],
    ['0.0.0.0/0', [at('10.1.2.3')], [at('2001:db8::1')]],
    ['[2001:db8::/32]:443/tcp', [at('2001:db8:0::1')], [at('2001:db9::1'), at('2001:db8::1', 80)]],
    ['2001:db8::1', [at('2001:DB8::1')], [at('2001:db8::2')]],
    ['fe80::/10', [at('fe80::1%lo')], [at('fec0::1')]],
    ['127.0.0.1', [at('0.0.0.0'), at('127.0.0.1')], [at('127.0.0.2')]],
  ] as const) {
    const policy = new NamePolicy({ allow: [rule] });
    for (const subject of yes) t.equal(policy.test(subject), true, `${rule}: ${JSON.stringify(subject)}`);
    for (const subject of no)
      t.equal(policy.test(subject), false, `${rule}, not: ${JSON.stringify(subject)}`);
  }
});

t.test('which rule wins, and what is said of it', async (t) => {
  const policy = new NamePolicy({
    allow: [
      'example.com',
      '*.example.com:443',
      '*.b.example.com',
      '10.1.0.0/16',
      'same.net',
      '*.c.net:1-10/tcp',
      '198.51.100.0/24/http2',
    ],
    deny: ['*.example.com', '10.0.0.0/8', '*.c.net:1-9', 'same.net', 'a.c.net/tls', '198.51.100.0/24/http'],
    unnamed: 'allow',
  });
  for (const [subject, allowed, because] of [
    [{ name: 'example.com' }, true, 'allow example.com'],
    [{ name: 'a.example.com' }, false, 'deny *.example.com'],
    [{ name: 'a.example.com', port: 443 }, true, 'allow *.example.com:443'],
    [{ name: 'a.b.example.com' }, true, 'allow *.b.example.com'],
    [{ name: 'same.net' }, false, 'deny same.net'],
    [{ name: 'x.c.net', port: 5, protocol: 'tls' }, false, 'deny *.c.net:1-9'],
    [{ name: 'x.c.net', port: 10, protocol: 'tls' }, true, 'allow *.c.net:1-10/tcp'],
    [{ name: 'a.c.net', port: 10, protocol: 'tls' }, false, 'deny a.c.net/tls'],
    [{ address: '10.1.0.1' }, true, 'allow 10.1.0.0/16'],
    [{ address: '10.2.0.1' }, false, 'deny 10.0.0.0/8'],
    [{ name: 'example.com', address: '10.2.0.1' }, false, 'deny 10.0.0.0/8'],
    [{ name: 'a.example.com', address: '10.1.0.1' }, false, 'deny *.example.com'],
    [{ name: 'elsewhere.org', address: '10.1.0.1' }, true, 'allow 10.1.0.0/16'],
    [{ name: 'elsewhere.org', address: '192.0.2.1' }, false, 'default: deny'],
    [{ address: '198.51.100.1', protocol: 'http2' }, true, 'allow 198.51.100.0/24/http2'],
    [{ address: '198.51.100.1', protocol: 'http' }, false, 'deny 198.51.100.0/24/http'],
    [{ address: '192.0.2.1' }, true, 'unnamed: allow'],
    [{ name: 'example.com', ech: true }, true, 'unnamed: allow'],
    [{}, true, 'unnamed: allow'],
    ['example.com', true, 'allow example.com'],
  ] as const) {
    const rule = /^(?:allow|deny) (.*)/.exec(because)?.[1];
    t.same(policy.explain(subject), { allowed, because, ...(rule === undefined ? {} : { rule }) });
  }
  t.equal(new NamePolicy({ allow: ['a.b'], ech: 'outer' }).test({ name: 'a.b', ech: true }), true);
  t.equal(new NamePolicy({ deny: ['0.0.0.0'] }).test({ address: '0.0.0.0' }), false);
  t.equal(
    new NamePolicy({ allow: ['0.0.0.0'] }).test({ address: '0.0.0.0' }),
    false,
    'it is dialled as 127.0.0.1',
  );
  t.throws(() => policy.test({ address: 'example.com' }), { code: 'ERR_INVALID_ARG_TYPE' });
});

t.test('what is in no rule', async (t) => {
  const subjects = { named: { name: 'a.b' }, unnamed: { address: '192.0.2.1' } } as const;
  for (const [rules, named, unnamed] of [
    [{}, true, true],
    [{ deny: ['b.c'] }, true, true],
    [{ allow: [] }, false, false],
    [{ allow: ['b.c'], default: 'allow' }, true, true],
    [{ default: 'deny' }, false, false],
    [{ unnamed: 'deny' }, true, false],
    [{ default: 'deny', unnamed: 'allow' }, false, true],
  ] as const) {
    const policy = new NamePolicy(rules);
    t.equal(policy.test(subjects.named), named, JSON.stringify(rules));
    t.equal(policy.test(subjects.unnamed), unnamed, `unnamed, ${JSON.stringify(rules)}`);
  }
});

t.test('names alone', async (t) => {
  const policy = new NamePolicy({
    allow: ['*.example.com:443', 'q.net/quic', '10.0.0.0/8', '*.low.org:1-1023'],
    deny: [
      'no.example.com',
      'some.example.com:443',
      'open.net:25',
      '*.low.org:1-1023/tcp',
      '*.low.org:1-1023/udp',
    ],
  });
  for (const [name, allowed] of [
    ['a.example.com', true],
    ['example.com', false],
    ['no.example.com', false],
    ['some.example.com', false],
    ['q.net', true],
    ['open.net', false],
    ['a.low.org', false],
    ['10.0.0.1', false],
    ['', false],
  ] as const) {
    t.equal(policy.allowsName(name), allowed, name);
  }
  t.equal(new NamePolicy({ deny: ['open.net:25'] }).allowsName('open.net'), true, 'at another port');
  t.equal(new NamePolicy({ deny: ['open.net:0-1023'] }).allowsName('open.net'), true, 'right behind those');
  t.equal(new NamePolicy({ deny: ['open.net'] }).allowsName('open.net'), false);
});

t.test('what is no policy', async (t) => {
  for (const text of [
    '',
    ' ',
    'a..b',
    '*.',
    '**.a.b',
    'a.*.b',
    'a*.b',
    'example.com:',
    'example.com:x',
    'example.com:65536',
    'example.com:9-8',
    'example.com/sctp',
    'example.com/toString',
    '10.0.0.1/8',
    '10.0.0.0/33',
    '10.0.0.0/8/8',
    '10.0.0.0/-1',
    '::ffff:10.0.0.0/95',
    '2001:db8::/129',
    'fe80::1%lo',
    '[2001:db8::1]443',
    '127.1',
    'https://example.com',
    'x'.repeat(64),
  ]) {
    for (const key of ['allow', 'deny'])
      t.throws(() => new NamePolicy({ [key]: [text] }), { code: 'ERR_POLICY_RULE', hint: /./ }, `'${text}'`);
  }
  for (const [rules, code] of [
    [null, 'ERR_INVALID_ARG_TYPE'],
    [{ allow: 'a.b' }, 'ERR_INVALID_ARG_TYPE'],
    [{ deny: [1] }, 'ERR_INVALID_ARG_TYPE'],
    [{ alow: [] }, 'ERR_INVALID_ARG_VALUE'],
    [{ default: 'no' }, 'ERR_OUT_OF_RANGE'],
    [{ unnamed: true }, 'ERR_OUT_OF_RANGE'],
    [{ ech: 'inner' }, 'ERR_OUT_OF_RANGE'],
  ] as const) {
    t.throws(() => new NamePolicy(rules as unknown as NamePolicyRules), { code }, JSON.stringify(rules));
  }
});

t.test('as an egress policy', async (t) => {
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const egress = new NamePolicy({ allow: [`localhost:${port}`, '192.0.2.0/24/tcp'], deny: ['127.0.0.0/8'] });
  checkEgress('egress', egress);
  t.equal(egressRefusal(egress, { address: '192.0.2.1', port: 9 }), undefined);
  t.match(egressRefusal(egress, { address: '198.51.100.1', port: 9 }), {
    code: 'ERR_EGRESS_DENIED',
    message: 'The egress policy does not allow 198.51.100.1:9: unnamed: deny',
  });
  t.match(egressRefusal(egress, { name: 'localhost', address: '127.0.0.1', port }), {
    message: `The egress policy does not allow localhost at 127.0.0.1:${port}: deny 127.0.0.0/8`,
  });
  const code = (options: Parameters<typeof connect>[0]): Promise<string | undefined> =>
    new Promise((resolve) => {
      const socket = connect(options);
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code));
      socket.on('connect', () => {
        socket.destroy();
        resolve('connected');
      });
    });
  t.equal(await code({ address: 'localhost', port, egress }), 'ERR_EGRESS_DENIED');
  const byName = new NamePolicy({ allow: ['localhost'] });
  t.equal(await code({ address: 'localhost', port, egress: byName }), 'connected', 'the name is known');
  t.equal(await code({ address: '127.0.0.1', port, egress: byName }), 'ERR_EGRESS_DENIED');
});

t.test('as the book says, in whatever order', async () => {
  fc.assert(
    fc.property(arbitraryRules, arbitrarySubject, (rules, subject) => {
      const told = new NamePolicy(rules).explain(subject);
      const expected = byTheBook(rules, subject);
      const reversed = { ...rules, allow: rules.allow.toReversed(), deny: rules.deny.toReversed() };
      return told.allowed === expected && new NamePolicy(reversed).test(subject) === expected;
    }),
    runs,
  );
});

t.test('JSON and back', async () => {
  fc.assert(
    fc.property(arbitraryRules, arbitrarySubject, (rules, subject) => {
      const policy = new NamePolicy(rules);
      const text = JSON.stringify(policy);
      const again = new NamePolicy(JSON.parse(text) as NamePolicyRules);
      return (
        JSON.stringify(again) === text && again.explain(subject).because === policy.explain(subject).because
      );
    }),
    runs,
  );
});

t.test('a name alone is allowed just where some port and protocol is', async () => {
  fc.assert(
    fc.property(arbitraryRules, arbitrarySubject, (rules, { name = '' }) => {
      const policy = new NamePolicy(rules);
      const somewhere = [1, 79, 80, 81, 442, 443, 444, 65535].some((port) =>
        (['tcp', 'udp', 'tls', 'http', 'http2', 'quic'] as const).some((protocol) =>
          policy.test({ name, port, protocol }),
        ),
      );
      return policy.allowsName(name) === (canonicalName(name) !== undefined && somewhere);
    }),
    runs,
  );
});

t.test('whatever text: a rule, or the error', async () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom(...'a.*:/[]0-9%\0é') }),
  );
  fc.assert(
    fc.property(text, text, (rule, name) => {
      try {
        new NamePolicy({ allow: [rule] }).test(name);
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === 'ERR_POLICY_RULE';
      }
      return true;
    }),
    runs,
  );
});
