import { isIPv4, isIPv6 } from 'node:net';

/** One IP address and port, in canonical form: an IPv4-mapped IPv6 address is written as the IPv4 address. */
export interface Endpoint {
  /** `192.0.2.1`, `2001:db8::1`, or `fe80::1%eth0`: a link-local address keeps its interface. */
  address: string;
  /** 0 to 65535. */
  port: number;
  family: 'IPv4' | 'IPv6';
}

const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** The IPv4 address that an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) stands for; any other text unchanged. */
export function unmap(address: string): string {
  return MAPPED.exec(address)?.[1] ?? address;
}

/** The family of a literal IP address, or undefined for text that is none. */
export function familyOf(address: string): Endpoint['family'] | undefined {
  if (isIPv4(address)) return 'IPv4';
  return isIPv6(address) ? 'IPv6' : undefined;
}

/** Is this the address of a listener on all addresses? */
export function isWildcard(address: string): boolean {
  return address === '::' || address === '0.0.0.0';
}

/** RFC 3986 authority form: `192.0.2.1:80`, `[2001:db8::1]:80`. */
export function formatEndpoint(endpoint: { address: string; port: number }): string {
  const { address, port } = endpoint;
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
