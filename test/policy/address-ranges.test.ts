// A BlockList as ranges: each address is in one of them just if the list holds it.
import { BlockList } from 'node:net';
import * as fc from 'fast-check';
import t from 'tap';
import { addressBytes, canonicalAddress } from '../../lib/address.ts';
import { addressRanges } from '../../lib/policy/address-ranges.ts';
import { listed } from '../../lib/policy/egress.ts';

const numRuns = Number(process.env['FUZZ_RUNS'] ?? 300);

function inRanges(list: BlockList, address: string): boolean {
  const bytes = Buffer.from(addressBytes(address));
  return addressRanges(list).some(
    ({ first, last }) =>
      first.length === bytes.length &&
      Buffer.compare(Buffer.from(first), bytes) <= 0 &&
      Buffer.compare(bytes, Buffer.from(last)) <= 0,
  );
}

t.test('the same as the list itself says', (t) => {
  // Few bits, so that rules and addresses meet.
  const near = fc.constantFrom(0, 1, 127, 128, 255);
  const v4 = fc.tuple(fc.constantFrom(10, 127), near, near, near).map((bytes) => bytes.join('.'));
  const word = fc.constantFrom('0', '1', '7fff', '8000', 'ffff');
  const v6 = fc.tuple(word, word, word, word).map(([a, b, c, d]) => `2001:${a}::${b}:${c}:${d}`);
  const mapped = v4.map((address) => `::ffff:${address}`);
  const low = fc.constantFrom('::', '::1', '::fffe:0:0', '::1:0:0:5');
  const any6 = fc.oneof(v6, mapped, low);
  const rule = fc.oneof(
    fc.record({ kind: fc.constant('address'), first: fc.oneof(v4, any6), bits: fc.constant(0), last: v4 }),
    fc.record({ kind: fc.constant('subnet'), first: v4, bits: fc.integer({ min: 0, max: 32 }), last: v4 }),
    fc.record({ kind: fc.constant('subnet'), first: any6, bits: fc.integer({ min: 0, max: 128 }), last: v4 }),
    fc.record({ kind: fc.constant('range'), first: v4, bits: fc.constant(0), last: v4 }),
    fc.record({ kind: fc.constant('range'), first: any6, bits: fc.constant(0), last: any6 }),
  );
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 4 }), fc.array(fc.oneof(v4, any6)), (rules, addresses) => {
      const list = new BlockList();
      for (const { kind, first, bits, last } of rules) {
        const family = first.includes(':') ? 'ipv6' : 'ipv4';
        if (kind === 'address') list.addAddress(first, family);
        else if (kind === 'subnet') list.addSubnet(first, bits, family);
        else {
          // A list takes no range that ends before it begins.
          try {
            list.addRange(first, last, family);
          } catch {
            continue;
          }
        }
      }
      const ends = rules.flatMap(({ first, last }) => [first, last]);
      for (const text of [...addresses, ...ends]) {
        const address = canonicalAddress(text)!;
        if (inRanges(list, address) !== listed(list, address))
          throw new Error(`${address} in ${JSON.stringify(list.rules)}: ${listed(list, address)}`);
      }
    }),
    { numRuns },
  );
  t.end();
});
