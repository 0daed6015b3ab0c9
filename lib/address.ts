// IP addresses as values: one spelling for each, and what an address says of itself.
import { isIPv4, isIPv6 } from 'node:net';
import { binding } from './binding.ts';

/** One IP address and port, in canonical form: an IPv4-mapped IPv6 address is written as the IPv4 address. */
export interface Endpoint {
  /** `192.0.2.1`, `2001:db8::1`, or `fe80::1%eth0`: a link-local address keeps its interface. */
  address: string;
  /** 0 to 65535. */
  port: number;
  family: 'IPv4' | 'IPv6';
}

/** Link-local unicast, and multicast of one interface or link: what the kernel will not dial without its interface. */
const NEEDS_INTERFACE = /^(?:fe[89ab]|ff[0-9a-f][12])/;
/** RFC 4291, 2.5.5.2, as URL writes them. */
const MAPPED = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/;

/** As the kernel's dev_valid_name(): nearly anything. */
function couldBeInterface(name: string): boolean {
  return /^[^/: \t-\r]+$/.test(name) && Buffer.byteLength(name) < 16;
}

function dotted(...words: string[]): string {
  return words
    .map((word) => Number.parseInt(word, 16))
    .flatMap((word) => [word >> 8, word & 0xff])
    .join('.');
}

/**
 * The one spelling of an IP address, by which addresses are compared: RFC 5952, an IPv4-mapped one as the IPv4
 * address, and with the interface's name where the address says nothing without it (else it is left out, as the
 * kernel takes no notice of it). The addon spells what comes from the kernel in the same way (src/socket/endpoint.cc).
 *
 * @param text any spelling that inet_pton(3) takes, with `%interface` or `%index` behind IPv6
 * @returns undefined for text that is no IP address
 */
export function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text;
  const percent = text.indexOf('%');
  const bare = percent < 0 ? text : text.slice(0, percent);
  const scope = percent < 0 ? undefined : text.slice(percent + 1);
  if (!isIPv6(bare) || (scope !== undefined && !couldBeInterface(scope))) return undefined;
  const shortest = new URL(`http://[${bare}]`).hostname.slice(1, -1);
  const [, high, low] = MAPPED.exec(shortest) ?? [];
  if (high !== undefined && low !== undefined) return dotted(high, low);
  if (scope === undefined || !NEEDS_INTERFACE.test(shortest)) return shortest;
  const spelled = `${shortest}%${scope}`;
  if (!/^\d+$/.test(scope)) return spelled;
  const named = binding().canonicalAddress(spelled);
  return typeof named === 'string' ? named : spelled;
}

/** The family of an address in canonical form. */
export function familyOf(address: string): Endpoint['family'] {
  return address.includes(':') ? 'IPv6' : 'IPv4';
}

/** The 32 or 128 bits of an address in canonical form and without an interface, as `0` and `1`. */
export function addressBits(address: string): string {
  if (familyOf(address) === 'IPv4')
    return address
      .split('.')
      .map((byte) => Number(byte).toString(2).padStart(8, '0'))
      .join('');
  const [head = '', tail] = address.split('::').map((part) => (part === '' ? [] : part.split(':')));
  const words =
    tail === undefined ? head : [...head, ...Array<string>(8 - head.length - tail.length).fill('0'), ...tail];
  return [...words].map((word) => Number.parseInt(word, 16).toString(2).padStart(16, '0')).join('');
}

/** The 4 or 16 bytes of an address in canonical form, in network order; an interface is left out. */
export function addressBytes(address: string): number[] {
  if (familyOf(address) === 'IPv4') return address.split('.').map(Number);
  const [head = '', tail = ''] = address.replace(/%.*/, '').split('::');
  const words = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((word) => Number.parseInt(word, 16));
  const [before, after] = [words(head), words(tail)];
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0);
  return [...before, ...zeros, ...after].flatMap((word) => [word >> 8, word & 0xff]);
}

/** Is this, in canonical form, the address of a listener on all addresses? */
export function isWildcard(address: string): boolean {
  return address === '::' || address === '0.0.0.0';
}

/** Where connect(2) to this address, in canonical form, goes: to a wildcard, this host's loopback address. */
export function dialledAddress(address: string): string {
  if (address === '0.0.0.0') return '127.0.0.1';
  return address === '::' ? '::1' : address;
}

/** RFC 3986 authority form: `192.0.2.1:80`, `[2001:db8::1]:80`. */
export function formatEndpoint(endpoint: { address: string; port: number }): string {
  const { address, port } = endpoint;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
