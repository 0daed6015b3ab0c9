// Ranges of addresses and ports: read, merged, written.
import { SocketAddress } from 'node:net';
import { canonicalAddress, familyOf } from '../../address.ts';
import { codedError } from '../../errors.ts';
import type { Family, PortRange } from './config.ts';

/** Addresses of one family, or ports, from `first` to `last`, both included. */
export interface Range {
  first: bigint;
  last: bigint;
}

/** No address of a host: RFC 5771, RFC 4291. */
export const MULTICAST: Record<Family, string> = { IPv4: '224.0.0.0/4', IPv6: 'ff00::/8' };

/** Bits in an address. */
export const BITS: Record<Family, number> = { IPv4: 32, IPv6: 128 };

/** Of an address in canonical form. */
function toNumber(address: string, family: Family): bigint {
  if (family === 'IPv4') {
    return address.split('.').reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  }
  const [head = '', tail] = address.split('::');
  const words = (text: string | undefined): string[] => (text ? text.split(':') : []);
  const zeros = tail === undefined ? 0 : 8 - words(head).length - words(tail).length;
  return [...words(head), ...Array<string>(zeros).fill('0'), ...words(tail)].reduce(
    (sum, word) => (sum << 16n) | BigInt(`0x${word}`),
    0n,
  );
}

function toText(value: bigint, family: Family): string {
  const step = family === 'IPv4' ? 8n : 16n;
  const parts = Array.from({ length: BITS[family] / Number(step) }, (_, i) =>
    ((value >> (BigInt(BITS[family]) - step * BigInt(i + 1))) & ((1n << step) - 1n)).toString(
      family === 'IPv4' ? 10 : 16,
    ),
  );
  if (family === 'IPv4') return parts.join('.');
  // SocketAddress writes the dotted forms as the tools do; Bun's gives back what it was given, so URL shortens first.
  const shortest = new URL(`http://[${parts.join(':')}]`).hostname.slice(1, -1);
  return new SocketAddress({ address: shortest, family: 'ipv6' }).address;
}

/** Reads `10.0.0.0/8`, `192.0.2.1`, `2001:db8::/32`. */
export function parseCidr(option: string, text: unknown): Range & { family: Family } {
  const refuse = (why: string, hint?: string) =>
    codedError(
      'ERR_RULES_ADDRESS',
      `${option}: ${typeof text === 'string' ? `'${text}'` : String(text)} ${why}`,
      hint === undefined ? {} : { hint },
    );
  if (typeof text !== 'string') throw refuse('is not text', 'write 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32');
  const [written = '', length, ...rest] = text.split('/');
  const address = canonicalAddress(written);
  if (address === undefined || written.includes('%') || rest.length > 0) {
    throw refuse('is no address and no prefix', 'write 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32');
  }
  const bits = BITS[familyOf(written)];
  if (length !== undefined && (!/^\d{1,3}$/.test(length) || Number(length) > bits)) {
    throw refuse(`has no prefix length from 0 to ${bits}`);
  }
  const family = familyOf(address);
  if (family !== familyOf(written)) {
    const ipv4 = length === undefined ? address : `${address}/${Math.max(0, Number(length) - 96)}`;
    throw refuse('is an IPv4-mapped address, which no packet carries', `write ${ipv4}`);
  }
  const host = (1n << BigInt(bits - Number(length ?? bits))) - 1n;
  const first = toNumber(address, family);
  if ((first & host) !== 0n) {
    const network = `${toText(first & ~host, family)}/${length}`;
    throw refuse(
      'has bits set beyond its prefix length',
      `write ${network} for the network, ${address} for the host`,
    );
  }
  return { family, first, last: first | host };
}

/** Reads 80 or `'8000-8999'`. */
export function parsePorts(option: string, value: PortRange): Range {
  const [, first, last] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(String(value)) ?? [];
  const range = { first: Number(first), last: Number(last ?? first) };
  if (first === undefined || range.first < 1 || range.last > 65535 || range.last < range.first) {
    throw codedError('ERR_RULES_PORT', `${option}: '${String(value)}' is no port and no range of ports`, {
      hint: "write 80 or '8000-8999', from 1 to 65535",
    });
  }
  return { first: BigInt(range.first), last: BigInt(range.last) };
}

/** Sorts and joins ranges that touch, as the kernel's own listing shows them; two that overlap are given to `onOverlap`. */
export function mergeRanges(ranges: readonly Range[], onOverlap: (a: Range, b: Range) => void): Range[] {
  const merged: Range[] = [];
  for (const range of [...ranges].sort((a, b) => (a.first < b.first ? -1 : 1))) {
    const previous = merged.at(-1);
    if (previous !== undefined && range.first <= previous.last) onOverlap(previous, range);
    if (previous !== undefined && range.first <= previous.last + 1n) {
      if (range.last > previous.last) previous.last = range.last;
    } else merged.push({ first: range.first, last: range.last });
  }
  return merged;
}

export const EVERY_ADDRESS: Record<Family, Range[]> = {
  IPv4: [{ first: 0n, last: (1n << 32n) - 1n }],
  IPv6: [{ first: 0n, last: (1n << 128n) - 1n }],
};
/** No connection goes to port 0. */
export const EVERY_PORT: Range[] = [{ first: 1n, last: 65535n }];

/** Is every part of `inner` in `outer`? Both merged. */
export function covers(outer: readonly Range[], inner: readonly Range[]): boolean {
  return inner.every((part) => outer.some((whole) => whole.first <= part.first && part.last <= whole.last));
}

/** The fewest prefixes that make up a range, for iptables, which knows no ranges without a further module. */
export function toPrefixes({ first, last }: Range, family: Family): string[] {
  const prefixes: string[] = [];
  for (let start = first; start <= last;) {
    let size = 0;
    while (
      size < BITS[family] &&
      (start & ((1n << BigInt(size + 1)) - 1n)) === 0n &&
      start + (1n << BigInt(size + 1)) - 1n <= last
    ) {
      size++;
    }
    prefixes.push(`${toText(start, family)}/${BITS[family] - size}`);
    start += 1n << BigInt(size);
  }
  return prefixes;
}

/** A range of addresses as nft lists it: an address, a prefix, or `first-last`. */
export function formatAddresses(range: Range, family: Family): string {
  const [prefix = '', another] = toPrefixes(range, family);
  if (another !== undefined) return `${toText(range.first, family)}-${toText(range.last, family)}`;
  return range.first === range.last ? toText(range.first, family) : prefix;
}

/** A range of ports: `80`, `8000-8999`; iptables writes the range with a colon. */
export function formatPorts({ first, last }: Range, dash: '-' | ':'): string {
  return first === last ? `${first}` : `${first}${dash}${last}`;
}
