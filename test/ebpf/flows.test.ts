// Flows compiled to maps: whatever the flows, the maps say of every destination what the flows do.
import { strictEqual } from 'node:assert/strict';
import * as fc from 'fast-check';
import t from 'tap';
import { compileFlows, type FlowMaps } from '../../lib/ebpf/flows.ts';
import type { Family, FlowMatch, PortRange } from '../../lib/rules/index.ts';

/** As the program looks up: the flows of a destination. */
function lookUp(
  { ports, prefixes, every }: FlowMaps,
  family: Family,
  address: Uint8Array,
  port: number,
): bigint {
  const byPort = ports === null ? every : ports[port]!;
  const bytes = prefixes[family];
  if (bytes.length === 0) return byPort & every;
  const [size, flowsAt] = family === 'IPv4' ? [16, 8] : [32, 24];
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let longest = -1;
  let flows = 0n;
  for (let at = 0; at < bytes.length; at += size) {
    const length = view.getUint32(at, true);
    let same = true;
    for (let bit = 0; bit < length; bit++) {
      const mask = 0x80 >> (bit % 8);
      const byte = Math.floor(bit / 8);
      if ((bytes[at + 4 + byte]! & mask) !== (address[byte]! & mask)) same = false;
    }
    if (!same || length <= longest) continue;
    longest = length;
    flows = view.getBigUint64(at + flowsAt, true);
  }
  return byPort & flows;
}

const V4 = [10, 172, 192].flatMap((a) => [0, 1, 128, 255].map((d) => Uint8Array.of(a, 0, 0, d)));
const V6 = [0x20, 0x26].flatMap((a) =>
  [0, 1, 255].map((z) => Uint8Array.of(a, 1, 0xd, 0xb8, ...new Uint8Array(11), z)),
);
const CIDRS = [
  ['0.0.0.0/0', 'IPv4', 0],
  ['10.0.0.0/8', 'IPv4', 8],
  ['10.0.0.0/25', 'IPv4', 25],
  ['10.0.0.128/25', 'IPv4', 25],
  ['10.0.0.1', 'IPv4', 32],
  ['192.0.0.0/16', 'IPv4', 16],
  ['::/0', 'IPv6', 0],
  ['2001:db8::/32', 'IPv6', 32],
  ['2001:db8::ff', 'IPv6', 128],
  ['2601:db8::/64', 'IPv6', 64],
] as const;
type Cidr = (typeof CIDRS)[number];

function covers([text, family, length]: Cidr, of: Family, address: Uint8Array): boolean {
  if (family !== of) return false;
  const bytes = bytesOf(text.split('/')[0]!);
  for (let bit = 0; bit < length; bit++) {
    const byte = Math.floor(bit / 8);
    const mask = 0x80 >> (bit % 8);
    if ((bytes[byte]! & mask) !== (address[byte]! & mask)) return false;
  }
  return true;
}

/** Of the texts above. */
function bytesOf(text: string): Uint8Array {
  if (text.includes('.')) return Uint8Array.from(text.split('.').map(Number));
  const [head = '', tail = ''] = text.split('::');
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  if (head !== '')
    for (const [at, word] of head.split(':').entries()) view.setUint16(2 * at, Number.parseInt(word, 16));
  if (tail !== '') view.setUint16(14, Number.parseInt(tail, 16));
  return bytes;
}

const PORTS: readonly PortRange[] = [80, 443, '1-1023', '400-500', '1024-65535'];
interface Flow {
  ports: readonly PortRange[] | undefined;
  cidrs: readonly Cidr[] | undefined;
}
const flow: fc.Arbitrary<Flow> = fc.record({
  ports: fc.option(fc.subarray([...PORTS]), { nil: undefined }),
  cidrs: fc.option(fc.subarray([...CIDRS]), { nil: undefined }),
});
const toMatch = ({ ports, cidrs }: Flow): FlowMatch => ({
  ...(ports && { ports }),
  ...(cidrs && { destinations: cidrs.map(([text]) => text) }),
});

function matches({ ports, cidrs }: Flow, family: Family, address: Uint8Array, port: number): boolean {
  const within = (range: PortRange): boolean => {
    const [first, last = first] = String(range).split('-').map(Number);
    return port >= first! && port <= last!;
  };
  return (ports?.some(within) ?? true) && (cidrs?.some((cidr) => covers(cidr, family, address)) ?? true);
}

t.test('any flows', (t) => {
  fc.assert(
    fc.property(fc.array(flow, { maxLength: 4 }), fc.array(flow, { maxLength: 3 }), (include, exclude) => {
      const maps = compileFlows(include.map(toMatch), exclude.map(toMatch));
      for (const [family, addresses] of [
        ['IPv4', V4],
        ['IPv6', V6],
      ] as const) {
        for (const address of addresses) {
          for (const port of [1, 80, 443, 500, 1024, 65535]) {
            const flows = lookUp(maps, family, address, port);
            for (const [index, one] of include.entries())
              strictEqual((flows >> BigInt(index)) & 1n, BigInt(matches(one, family, address, port)));
            for (const [index, one] of exclude.entries())
              strictEqual((flows >> BigInt(32 + index)) & 1n, BigInt(matches(one, family, address, port)));
          }
        }
      }
    }),
    { numRuns: 60 },
  );
  t.pass();
  t.end();
});

t.test('everything, one flow alone, nothing', (t) => {
  t.match(compileFlows(), { ports: null, prefixes: { IPv4: { length: 0 } }, every: 1n });
  t.match(compileFlows({ ports: [80] }).ports![80], 1n);
  t.match(compileFlows([]), { ports: null, every: 0n });
  t.end();
});

t.test('what cannot be matched', (t) => {
  t.throws(() => compileFlows({ sources: ['10.0.0.0/8'] }), {
    code: 'ERR_CAPTURE_MATCH',
    message: /include\[0\] has `sources`/,
  });
  t.throws(() => compileFlows({}, [{}, { interfaces: ['eth0'] }]), {
    message: /exclude\[1\] has `interfaces`/,
  });
  t.throws(() => compileFlows(Array.from({ length: 33 }, () => ({}))), {
    message: /include has more than 32 flows/,
  });
  t.throws(() => compileFlows({ ports: [0] }), { code: 'ERR_RULES_PORT' });
  t.throws(() => compileFlows({ destinations: ['10.0.0.1/8'] }), { code: 'ERR_RULES_ADDRESS' });
  t.end();
});
