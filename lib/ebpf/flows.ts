// Which destinations are captured: the flows of the rule planner, as the entries of BPF maps.
import { codedError } from '../errors.ts';
import type { Family, FlowMatch } from '../rules/config/config.ts';
import { BITS, mergeRanges, parseCidr, parsePorts, type Range, toPrefixes } from '../rules/config/ranges.ts';

/** kCaptureFlows of src/ebpf/programs/capture.h: so many for `include`, and so many for `exclude`. */
const MOST = 32;

/** struct CapturePrefix4 and CapturePrefix6 of src/ebpf/capture.h. */
const PREFIX_SIZE: Record<Family, number> = { IPv4: 16, IPv6: 32 };
const FLOWS_AT: Record<Family, number> = { IPv4: 8, IPv6: 24 };

/** What the programs look up. A flow is a bit: the lower half includes, the upper half excludes. */
export interface FlowMaps {
  /** The flows of each port; null: no flow says anything about ports. */
  ports: BigUint64Array | null;
  /** The flows of each prefix; of an address, those of its longest one. Empty: no flow says anything about addresses. */
  prefixes: Record<Family, Uint8Array>;
  /** All flows. */
  every: bigint;
}

interface Flow {
  bit: bigint;
  ports: Range[] | undefined;
  destinations: Record<Family, Range[]> | undefined;
}

function refuse(option: string, what: string, hint: string): never {
  throw codedError('ERR_CAPTURE_MATCH', `${option} ${what}`, { hint });
}

/** The addresses of some prefixes, by family. That two of them overlap is no contradiction: they are alternatives. */
export function readPrefixes(option: string, texts: readonly string[]): Record<Family, Range[]> {
  const ranges = texts.map((text) => parseCidr(option, text));
  const of = (family: Family): Range[] =>
    mergeRanges(
      ranges.filter((range) => range.family === family),
      () => undefined,
    );
  return { IPv4: of('IPv4'), IPv6: of('IPv6') };
}

function readFlow(option: string, bit: bigint, flow: FlowMatch): Flow {
  for (const field of ['sources', 'interfaces'] as const) {
    if (flow[field] === undefined) continue;
    refuse(
      option,
      `has \`${field}\`, which are not known at connect(2)`,
      'match by ports and destinations, or use rules',
    );
  }
  const { ports, destinations } = flow;
  return {
    bit,
    ports: ports?.map((range) => parsePorts(`${option}.ports`, range)),
    destinations: destinations && readPrefixes(`${option}.destinations`, destinations),
  };
}

function asList(flows: FlowMatch | readonly FlowMatch[]): readonly FlowMatch[] {
  return Array.isArray(flows) ? (flows as readonly FlowMatch[]) : [flows as FlowMatch];
}

function byPort(flows: readonly Flow[]): BigUint64Array | null {
  if (flows.every(({ ports }) => ports === undefined)) return null;
  const masks = new BigUint64Array(65536);
  for (const { bit, ports } of flows) {
    for (const { first, last } of ports ?? [{ first: 1n, last: 65535n }])
      for (let port = Number(first); port <= Number(last); port++) masks[port]! |= bit;
  }
  return masks;
}

function readPrefix(text: string, family: Family): Range & { length: number } {
  const { first, last } = parseCidr('prefix', text);
  return { first, last, length: BITS[family] - ((last - first + 1n).toString(2).length - 1) };
}

/** struct CapturePrefix4 or CapturePrefix6, one behind the other. */
export function packPrefixes(prefixes: ReadonlyMap<string, bigint>, family: Family): Uint8Array {
  const size = PREFIX_SIZE[family];
  const bytes = new Uint8Array(prefixes.size * size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [text, flows] of prefixes) {
    const { length, first } = readPrefix(text, family);
    view.setUint32(at, length, true);
    for (let byte = 0; byte < BITS[family] / 8; byte++) {
      bytes[at + 4 + byte] = Number((first >> BigInt(BITS[family] - 8 * (byte + 1))) & 0xffn);
    }
    view.setBigUint64(at + FLOWS_AT[family], flows, true);
    at += size;
  }
  return bytes;
}

function byAddress(flows: readonly Flow[], family: Family): Uint8Array {
  if (flows.every(({ destinations }) => destinations === undefined)) return new Uint8Array();
  const texts = new Set([family === 'IPv4' ? '0.0.0.0/0' : '::/0']);
  for (const { destinations } of flows)
    for (const range of destinations?.[family] ?? [])
      for (const text of toPrefixes(range, family)) texts.add(text);
  // The trie knows the longest prefix alone, so each says what the shorter ones around it say too.
  const masks = new Map<string, bigint>();
  for (const text of texts) {
    const { first, last } = readPrefix(text, family);
    const around = (range: Range): boolean => range.first <= first && last <= range.last;
    let mask = 0n;
    for (const { bit, destinations } of flows)
      if (destinations === undefined || destinations[family].some(around)) mask |= bit;
    masks.set(text, mask);
  }
  return packPrefixes(masks, family);
}

/**
 * Compiles flows.
 *
 * @throws `ERR_CAPTURE_MATCH` for what is not known at connect(2), or too many flows; `ERR_RULES_ADDRESS`, `ERR_RULES_PORT`
 */
export function compileFlows(
  include: FlowMatch | readonly FlowMatch[] = {},
  exclude: FlowMatch | readonly FlowMatch[] = [],
): FlowMaps {
  const flows: Flow[] = [];
  for (const [name, list, shift] of [
    ['include', asList(include), 0],
    ['exclude', asList(exclude), MOST],
  ] as const) {
    if (list.length > MOST)
      refuse(name, `has more than ${MOST} flows`, 'put the addresses and ports of like flows into one');
    for (const [index, flow] of list.entries())
      flows.push(readFlow(`${name}[${index}]`, 1n << BigInt(shift + index), flow));
  }
  return {
    ports: byPort(flows),
    prefixes: { IPv4: byAddress(flows, 'IPv4'), IPv6: byAddress(flows, 'IPv6') },
    every: flows.reduce((mask, { bit }) => mask | bit, 0n),
  };
}
