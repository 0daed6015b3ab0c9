// What an egress policy holds: each family by its own rules, and one answer for all spellings of an address.
import { BlockList } from 'node:net';
import * as fc from 'fast-check';
import t from 'tap';
import { canonicalAddress, familyOf } from '../../lib/address.ts';
import { checkEgress, egressRefusal, type EgressPolicy } from '../../lib/policy/egress.ts';

type Rule = [kind: 'subnet', address: string, bits: number] | [kind: 'range' | 'address', ...ends: string[]];

function listOf(...rules: Rule[]): BlockList {
  const list = new BlockList();
  for (const [kind, first, last] of rules) {
    const family = familyOf(String(first)) === 'IPv4' ? 'ipv4' : 'ipv6';
    if (kind === 'subnet') list.addSubnet(first, last, family);
    else if (kind === 'range') list.addRange(first!, last!, family);
    else list.addAddress(first!, family);
  }
  return list;
}

function allows(policy: EgressPolicy, address: string): boolean {
  const canonical = canonicalAddress(address)!;
  const refusal = egressRefusal(policy, { address: canonical, port: 80 });
  if (refusal !== undefined && refusal.code !== 'ERR_EGRESS_DENIED') throw refusal;
  return refusal === undefined;
}

t.test('a rule of one family says nothing of the other', async (t) => {
  const v4 = ['10.1.2.3', '::ffff:10.1.2.3', '::FFFF:a01:203'];
  const v6 = ['2001:db8::1', '2001:DB8:0::1', '::1', 'fe80::1%lo'];
  // prettier-ignore
  const cases: [string, BlockList, v4: boolean, v6: boolean][] = [
    ['::/0', listOf(['subnet', '::', 0]), false, true],
    ['::/64 and 2000::/3 and fe80::/10', listOf(['subnet', '::', 64], ['subnet', '2000::', 3], ['subnet', 'fe80::', 10]), false, true],
    ['all of IPv6 as a range', listOf(['range', '::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff']), false, true],
    ['0.0.0.0/0', listOf(['subnet', '0.0.0.0', 0]), true, false],
    ['mapped /104', listOf(['subnet', '::ffff:10.0.0.0', 104]), true, false],
    ['mapped /96', listOf(['subnet', '::ffff:0:0', 96]), true, false],
    ['::ffff:0:0/95', listOf(['subnet', '::ffff:0:0', 95]), false, false],
    ['a mapped range', listOf(['range', '::ffff:10.0.0.0', '::ffff:10.9.0.0']), true, false],
    ['a range that begins with mapped', listOf(['range', '::ffff:1.0.0.0', '::1:0:0:5']), false, false],
    ['a mapped address', listOf(['address', '::ffff:10.1.2.3']), true, false],
    ['an address', listOf(['address', '10.1.2.3']), true, false],
    ['::/0 and 10.0.0.0/8', listOf(['subnet', '::', 0], ['subnet', '10.0.0.0', 8]), true, true],
    ['::/0 and 11.0.0.0/8', listOf(['subnet', '::', 0], ['subnet', '11.0.0.0', 8]), false, true],
    ['::/0 and a mapped range', listOf(['subnet', '::', 0], ['range', '::ffff:10.0.0.0', '::ffff:10.9.0.0']), true, true],
    ['::/0 and mapped /104', listOf(['subnet', '::', 0], ['subnet', '::ffff:10.0.0.0', 104]), true, true],
    ['::/0 and an address', listOf(['subnet', '::', 0], ['address', '10.1.2.3']), true, true],
    ['::/0 and ::/80', listOf(['subnet', '::', 0], ['subnet', '::', 80]), false, true],
    ['nothing', listOf(), false, false],
  ];
  for (const [name, list, holdsV4, holdsV6] of cases) {
    for (const address of v4) {
      t.equal(allows({ allow: list }, address), holdsV4, `allow ${name}: ${address}`);
      t.equal(allows({ deny: list }, address), !holdsV4, `deny ${name}: ${address}`);
    }
    for (const address of v6) {
      t.equal(allows({ allow: list }, address), holdsV6, `allow ${name}: ${address}`);
      t.equal(allows({ deny: list }, address), !holdsV6, `deny ${name}: ${address}`);
    }
  }
});

t.test('a list may grow', async (t) => {
  const list = listOf(['subnet', '::', 0]);
  t.equal(allows({ allow: list }, '10.1.2.3'), false);
  list.addSubnet('10.0.0.0', 8, 'ipv4');
  t.equal(allows({ allow: list }, '10.1.2.3'), true);
});

t.test('the addresses that connect(2) takes for this host', async (t) => {
  const loopback = listOf(['subnet', '127.0.0.0', 8], ['address', '::1']);
  for (const address of ['0.0.0.0', '::', '::ffff:0.0.0.0', '0:0::0', '127.0.0.1', '::ffff:7f00:1', '::1']) {
    t.equal(allows({ deny: loopback }, address), false, `denied: ${address}`);
    t.equal(allows({ allow: loopback }, address), true, `allowed: ${address}`);
  }
  const unspecified = listOf(['address', '0.0.0.0'], ['address', '::']);
  for (const address of ['0.0.0.0', '::']) {
    t.equal(allows({ deny: unspecified }, address), false, `denied by its own name: ${address}`);
    t.equal(allows({ allow: unspecified }, address), false, `it is dialled by another name: ${address}`);
  }
});

t.test('as a list of each family would answer', async () => {
  const bytes = fc.array(fc.constantFrom(0, 1, 127, 128, 255), { minLength: 4, maxLength: 4 });
  const v4 = bytes.map((each) => each.join('.'));
  const words = fc.array(fc.constantFrom('0', '1', 'ffff'), { minLength: 8, maxLength: 8 });
  const v6 = words.map((each) => each.join(':'));
  const rule = fc.oneof(
    fc.tuple(fc.constant('subnet' as const), v4, fc.integer({ min: 0, max: 32 })),
    fc.tuple(fc.constant('subnet' as const), v6, fc.integer({ min: 0, max: 128 })),
    fc.tuple(fc.constant('address' as const), fc.oneof(v4, v6)),
  );
  fc.assert(
    fc.property(fc.array(rule, { maxLength: 4 }), fc.oneof(v4, v6), (rules, address) => {
      const canonical = canonicalAddress(address)!;
      // 0.0.0.0 and :: have a test of their own.
      fc.pre(canonical !== '0.0.0.0' && canonical !== '::');
      // Of the other family's rules only those that are mapped throughout can hold it.
      const own = rules.filter(([kind, first, bits]) => {
        const mapped = familyOf(first) === 'IPv6' && familyOf(canonicalAddress(first)!) === 'IPv4';
        const family = mapped && (kind === 'address' || Number(bits) >= 96) ? 'IPv4' : familyOf(first);
        return family === familyOf(canonical);
      });
      const family = familyOf(canonical) === 'IPv4' ? 'ipv4' : 'ipv6';
      return allows({ allow: listOf(...rules) }, address) === listOf(...own).check(canonical, family);
    }),
    { numRuns: Number(process.env['FUZZ_RUNS'] ?? 500) },
  );
});

t.test('what is no policy', async (t) => {
  checkEgress('options.egress', undefined);
  t.equal(egressRefusal(undefined, { address: '10.1.2.3', port: 80 }), undefined, 'none refuses nothing');
  checkEgress('options.egress', { allow: new BlockList() });
  for (const bad of [null, 1, { allow: [] }, { deny: {} }]) {
    t.throws(() => checkEgress('options.egress', bad), { code: 'ERR_INVALID_ARG_TYPE' });
  }
});
