// A BlockList as ranges of addresses, for those who cannot ask it: the same as listed() says of each address.
import type { BlockList } from 'node:net';
import { addressBytes, canonicalAddress } from '../address.ts';

/** First and last address, in network byte order: four bytes of IPv4, or sixteen. */
export interface AddressRange {
  first: number[];
  last: number[];
}

const IPV4 = 4;
const MAPPED_BITS = 96;
/** ::ffff:0:0/96 */
const MAPPED = [...Array.from({ length: 10 }, () => 0), 0xff, 0xff];

function toIPv6(bytes: number[]): number[] {
  return bytes.length === IPV4 ? [...MAPPED, ...bytes] : bytes;
}

function subnet(address: number[], length: number): AddressRange {
  const mask = address.map((_, at) => 0xff & ~(0xff >> Math.min(8, Math.max(0, length - at * 8))));
  return {
    first: address.map((byte, at) => byte & mask[at]!),
    last: address.map((byte, at) => byte | (0xff & ~mask[at]!)),
  };
}

export function addressRanges(list: BlockList): AddressRange[] {
  return list.rules.map((rule) => {
    // `Subnet: IPv6 ::ffff:10.0.0.0/104`, `Range: IPv4 10.0.0.1-10.0.0.9`, `Address: IPv4 10.0.0.1`
    const [, family, start = '', bits, end = start] = /: (IPv[46]) ([^-/]+)(?:\/(\d+)|-(.+))?$/.exec(rule)!;
    // Mapped addresses are IPv4 here; a rule that holds others too is about IPv6 alone.
    const [first, last] = [start, end].map((text) => addressBytes(canonicalAddress(text)!)) as [
      number[],
      number[],
    ];
    if (bits === undefined)
      return first.length === last.length ? { first, last } : { first: toIPv6(first), last: toIPv6(last) };
    if (family === 'IPv4' || first.length !== IPV4) return subnet(first, Number(bits));
    if (Number(bits) >= MAPPED_BITS) return subnet(first, Number(bits) - MAPPED_BITS);
    return subnet(toIPv6(first), Number(bits));
  });
}
