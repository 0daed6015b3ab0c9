// NameResolver: each name asked for once, kept for as long as it holds.
import { Resolver } from 'node:dns/promises';
import t from 'tap';
import { checkResolve, NameResolver, type ResolvedAddress } from '../../lib/dial/name-resolver.ts';
import { carriedAddress, nameAddressRefusal } from '../../lib/policy/name-addresses.ts';

function counting(answer: (name: string) => readonly ResolvedAddress[]): {
  asked: string[];
  resolver: (name: string) => Promise<readonly ResolvedAddress[]>;
} {
  const asked: string[] = [];
  return {
    asked,
    resolver: async (name) => {
      asked.push(name);
      return answer(name);
    },
  };
}

t.test('asked once, and again when the shortest of its times is over', async (t) => {
  let clock = 1_000_000;
  const { now } = Date;
  Date.now = () => clock;
  t.teardown(() => (Date.now = now));
  const { asked, resolver } = counting((name) =>
    name === 'plain.test'
      ? [{ address: '192.0.2.1' }]
      : [
          { address: '::ffff:192.0.2.1', ttl: 60_000 },
          { address: '2001:DB8::1', ttl: name === 'zero.test' ? 0 : 5000 },
        ],
  );
  const names = new NameResolver({ resolver });
  const both = await Promise.all([names.resolve('A.test.'), names.resolve('a.test')]);
  t.same(both, [
    ['192.0.2.1', '2001:db8::1'],
    ['192.0.2.1', '2001:db8::1'],
  ]);
  clock += 4999;
  await names.resolve('a.test');
  t.same(asked, ['a.test']);
  clock += 1;
  await names.resolve('a.test');
  t.equal(asked.length, 2);
  await names.resolve('plain.test');
  clock += 9999;
  await names.resolve('plain.test');
  t.equal(asked.length, 3);
  clock += 1;
  await names.resolve('plain.test');
  t.equal(asked.length, 4, 'ten seconds where no time is told');
  await names.resolve('zero.test');
  await names.resolve('zero.test');
  t.equal(asked.length, 6);
});

t.test('bounded', async (t) => {
  const { asked, resolver } = counting(() => [{ address: '192.0.2.1', ttl: 1e9 }]);
  const names = new NameResolver({ resolver });
  for (let i = 0; i < 4200; i++) await names.resolve(`n${i}.test`);
  t.equal(names.size, 4096);
  await names.resolve('n4199.test');
  t.equal(asked.length, 4200);
  await names.resolve('n0.test');
  t.equal(asked.length, 4201, 'the oldest is gone');
  // One that is dropped while it is being asked for.
  let answer: (found: ResolvedAddress[]) => void = () => {};
  const slow = new NameResolver({
    resolver: (name) =>
      name === 'slow.test'
        ? new Promise((resolve) => (answer = resolve))
        : Promise.resolve([{ address: '192.0.2.1' }]),
  });
  const first = slow.resolve('slow.test');
  for (let i = 0; i < 4096; i++) await slow.resolve(`n${i}.test`);
  answer([{ address: '192.0.2.2' }]);
  t.same(await first, ['192.0.2.2']);
});

t.test('what fails is asked again', async (t) => {
  let fails = true;
  const names = new NameResolver({
    resolver: async () => {
      if (fails) throw new Error('not now');
      return [{ address: '192.0.2.1' }];
    },
  });
  await t.rejects(names.resolve('a.test'), { message: 'not now' });
  fails = false;
  t.same(await names.resolve('a.test'), ['192.0.2.1']);
  for (const [answer, code] of [
    [[], 'ERR_NAME_REFUSED'],
    [[{ address: 'b.test' }], 'ERR_INVALID_ARG_TYPE'],
  ] as const) {
    await t.rejects(new NameResolver({ resolver: async () => answer }).resolve('a.test'), { code });
  }
  for (const bad of ['', 'a b', '127.0.0.1', '0x7f.1', 'x\0.test'])
    await t.rejects(names.resolve(bad), { code: 'ERR_NAME_REFUSED' }, JSON.stringify(bad));
});

t.test('which family comes first', async (t) => {
  const found = ['192.0.2.1', '2001:db8::1', '192.0.2.2', '2001:db8::2'].map((address) => ({ address }));
  const order = (how: 'verbatim' | 'ipv4first' | 'ipv6first'): Promise<string[]> =>
    new NameResolver({ resolver: async () => found, order: how }).resolve('a.test');
  t.same(await order('verbatim'), ['192.0.2.1', '2001:db8::1', '192.0.2.2', '2001:db8::2']);
  t.same(await order('ipv4first'), ['192.0.2.1', '192.0.2.2', '2001:db8::1', '2001:db8::2']);
  t.same(await order('ipv6first'), ['2001:db8::1', '2001:db8::2', '192.0.2.1', '192.0.2.2']);
});

t.test('the system, and the servers of resolv.conf', async (t) => {
  t.ok((await new NameResolver().resolve('localhost')).length > 0);
  const { resolve4, resolve6 } = Resolver.prototype;
  t.teardown(() => Object.assign(Resolver.prototype, { resolve4, resolve6 }));
  const fails = (): Promise<never> => Promise.reject(Object.assign(new Error('none'), { code: 'ENODATA' }));
  Object.assign(Resolver.prototype, {
    resolve4: async () => [{ address: '192.0.2.1', ttl: 7 }],
    resolve6: fails,
  });
  t.same(await new NameResolver({ resolver: 'dns' }).resolve('a.test'), ['192.0.2.1']);
  Object.assign(Resolver.prototype, { resolve4: fails });
  await t.rejects(new NameResolver({ resolver: 'dns' }).resolve('a.test'), { code: 'ENODATA' });
});

t.test('where a name must not lead', async (t) => {
  for (const address of [
    '0.0.0.0',
    '0.1.2.3',
    '127.0.0.1',
    '127.255.0.1',
    '169.254.169.254',
    '169.254.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '100.100.100.200',
    '::',
    '::1',
    '::7f00:1',
    'fe80::1',
    'fe80::1%lo',
    'fec0::1',
    'ff02::1%lo',
    '64:ff9b::7f00:1',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b:1::a00:1',
    '2002:7f00:1::1',
    'fd00:ec2::254',
  ]) {
    t.match(
      nameAddressRefusal('a.test', { address }),
      { code: 'ERR_NAME_REFUSED', hint: /by its address/ },
      address,
    );
  }
  for (const address of [
    '10.0.0.1',
    '192.0.2.1',
    'fd00::1',
    '2001:db8::1',
    '64:ff9b::c000:201',
    '2002:c000:201::1',
    '1::',
  ])
    t.equal(nameAddressRefusal('a.test', { address }), undefined, `${address} is for the policy to judge`);
  t.equal(carriedAddress('64:ff9b::c000:201'), '192.0.2.1');
  t.equal(carriedAddress('2002:c000:201::1'), '192.0.2.1');
  t.equal(carriedAddress('2001:db8::1'), undefined);
  t.equal(carriedAddress('192.0.2.1'), undefined);
});

t.test('what are no options', async (t) => {
  checkResolve('options.resolve', undefined);
  checkResolve('options.resolve', { resolver: 'dns', order: 'ipv4first' });
  for (const [options, code] of [
    [null, 'ERR_INVALID_ARG_TYPE'],
    [{ resolver: 'nss' }, 'ERR_OUT_OF_RANGE'],
    [{ order: 'random' }, 'ERR_OUT_OF_RANGE'],
  ] as const) {
    t.throws(() => checkResolve('options.resolve', options), { code }, JSON.stringify(options));
  }
});
