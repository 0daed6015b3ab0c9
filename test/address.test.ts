// One spelling for each address: as the addon reads and writes it with inet_pton(3) and the kernel's bytes.
import { constants } from 'node:os';
import * as fc from 'fast-check';
import t from 'tap';
import {
  addressBits,
  canonicalAddress,
  dialledAddress,
  familyOf,
  formatEndpoint,
  isWildcard,
} from '../lib/address.ts';
import { binding } from '../lib/binding.ts';

const numRuns = Number(process.env['FUZZ_RUNS'] ?? 1000);
const { EINVAL, ENODEV } = constants.errno;

t.test('the bits of an address', (t) => {
  t.equal(addressBits('192.0.2.1'), '11000000000000000000001000000001');
  t.equal(addressBits('::1').length, 128);
  t.equal(
    addressBits('1:2:3:4:5:6:7:8'),
    Array.from({ length: 8 }, (_, at) => (at + 1).toString(2).padStart(16, '0')).join(''),
  );
  t.end();
});

t.test('every spelling of an address is one', async (t) => {
  for (const [one, ...others] of [
    ['192.0.2.1', '::ffff:192.0.2.1', '::FFFF:c000:201', '0:0:0:0:0:ffff:C000:0201', '::ffff:192.0.2.1%lo'],
    ['0.0.0.0', '::ffff:0:0', '::ffff:0.0.0.0'],
    ['2001:db8::1', '2001:DB8::1', '2001:0db8:0:0:0:0:0:1', '2001:db8:0::0.0.0.1', '2001:db8::1%lo'],
    ['2001:db8:0:1::1', '2001:db8::1:0:0:0:1', '2001:db8:0:1:0:0:0:1'],
    ['::', '0::0', '0:0:0:0:0:0:0:0', '::0.0.0.0'],
    ['::1:203', '::0.1.2.3'],
    ['1:2:3:4:5:6:7:0', '1:2:3:4:5:6:7::'],
    ['fe80::1%lo', 'FE80:0::1%lo', 'fe80::1%1'],
    ['ff02::fb%lo', 'ff02:0::FB%1'],
    ['ff0e::1', 'ff0e::1%lo'],
    ['fe80::1%none', 'FE80::1%none'],
    ['fe80::1%größe', 'fe80:0::1%größe'],
    ['fe80::1%wg+1'],
    ['fe80::1%4294967295'],
  ] as const) {
    for (const text of [one, ...others]) t.equal(canonicalAddress(text), one, text);
  }
  // prettier-ignore
  for (const text of [
    '', 'example.org', '192.0.2', '01.2.3.4', '1.2.3.4.', ' ::1', '[::1]', '::1/128', '1.2.3.4%lo', ':::',
    'fe80::1%', 'fe80::1%a b', 'fe80::1%a/b', 'fe80::1%sixteen-letters-', '::1%\n', '::1\0', '::1.2.3.400',
  ]) {
    t.equal(canonicalAddress(text), undefined, JSON.stringify(text));
  }
});

/** What of a spelling is free. */
interface Style {
  upper: boolean;
  /** Leading zeros up to so many digits. */
  digits: number;
  /** Where a `::` stands, when there are zeros. */
  gap: number;
  /** A dotted end. */
  dots: boolean;
  scope: string;
}

t.test('as the addon spells what inet_pton(3) takes', async () => {
  const word = fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 0xffff }));
  const address = fc.oneof(
    fc.array(word, { minLength: 8, maxLength: 8 }),
    fc.tuple(word, word).map((two) => [0, 0, 0, 0, 0, 0xffff, ...two]),
    fc.tuple(fc.constantFrom(0xfe80, 0xfebf, 0xfec0, 0xff01, 0xff12, 0xff05), word).map(([a, b]) => {
      return [a, 0, 0, 0, 0, 0, 0, b];
    }),
  );
  const style: fc.Arbitrary<Style> = fc.record({
    upper: fc.boolean(),
    digits: fc.integer({ min: 1, max: 4 }),
    gap: fc.integer({ min: 0, max: 7 }),
    dots: fc.boolean(),
    scope: fc.constantFrom('', '%lo', '%1'),
  });
  const spell = (words: number[], { upper, digits, gap, dots, scope }: Style): string => {
    const [high = 0, low = 0] = words.slice(6);
    const parts = words.slice(0, dots ? 6 : 8).map((each) => each.toString(16).padStart(digits, '0'));
    if (dots) parts.push([high >> 8, high & 255, low >> 8, low & 255].join('.'));
    let end = gap;
    while (end < parts.length && /^0+$/.test(parts[end]!)) end++;
    const head = parts.slice(0, gap).join(':');
    const text = end > gap ? `${head}::${parts.slice(end).join(':')}` : parts.join(':');
    return (upper ? text.toUpperCase() : text) + scope;
  };
  fc.assert(
    fc.property(address, style, style, (words, a, b) => {
      const text = spell(words, a);
      const one = canonicalAddress(text)!;
      const same = canonicalAddress(spell(words, { ...b, scope: a.scope }));
      return one === binding().canonicalAddress(text) && one === same && one === canonicalAddress(one);
    }),
    { numRuns },
  );

  // Few random texts are addresses; most of those made of these letters nearly are.
  const letters = fc.constantFrom(...'0123456789abcdefF::::....%lo1');
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ unit: letters, maxLength: 24 })), (text) => {
      if (text.includes('\0')) return canonicalAddress(text) === undefined; // to C, the end
      const addons = binding().canonicalAddress(text);
      const ours = canonicalAddress(text);
      // An interface that does not exist is for connect(2) to refuse.
      if (addons === -ENODEV) return ours !== undefined && ours.includes('%');
      return typeof addons === 'string' ? ours === addons : addons === -EINVAL && ours === undefined;
    }),
    { numRuns: numRuns * 5 },
  );
});

t.test('familyOf', async (t) => {
  t.equal(familyOf('192.0.2.1'), 'IPv4');
  t.equal(familyOf('2001:db8::1'), 'IPv6');
  t.equal(familyOf('fe80::1%eth0'), 'IPv6');
});

t.test('isWildcard, and where a dial to one goes', async (t) => {
  t.ok(isWildcard('::'));
  t.ok(isWildcard('0.0.0.0'));
  t.notOk(isWildcard('::1'));
  t.notOk(isWildcard('127.0.0.1'));
  t.equal(dialledAddress('0.0.0.0'), '127.0.0.1');
  t.equal(dialledAddress('::'), '::1');
  for (const other of ['192.0.2.1', '::2', '0.0.0.1']) t.equal(dialledAddress(other), other);
});

t.test('formatEndpoint', async (t) => {
  t.equal(formatEndpoint({ address: '192.0.2.1', port: 80 }), '192.0.2.1:80');
  t.equal(formatEndpoint({ address: '2001:db8::1', port: 443 }), '[2001:db8::1]:443');
});
