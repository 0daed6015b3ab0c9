// The PROXY protocol's header as whoever is in front sends it.
import { addressBytes, familyOf, type Endpoint } from '../address.ts';

const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n');
const PROXY = 0x21;
const UNSPECIFIED = 0x00;
const TCP4 = 0x11;
const TCP6 = 0x21;
const AUTHORITY = 0x02;
const UNIQUE_ID = 0x05;

/** What a header says. */
export interface HeaderContent {
  client: Endpoint;
  /** Undefined where it is not known: then the client is not told of either. */
  destination?: Endpoint;
  /** Version 2: PP2_TYPE_AUTHORITY. */
  authority?: string;
  /** Version 2: PP2_TYPE_UNIQUE_ID, at most 128 bytes. */
  uniqueId?: Uint8Array;
}

function tlv(type: number, value: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 0xff]), value]);
}

function portBytes({ port }: Endpoint): number[] {
  return [port >> 8, port & 0xff];
}

/** The header. Source: haproxy.org/download/2.9/doc/proxy-protocol.txt */
export function writeProxyHeader(version: 1 | 2, content: HeaderContent): Buffer {
  const { client, destination, authority, uniqueId } = content;
  if (version === 1) {
    if (destination === undefined) return Buffer.from('PROXY UNKNOWN\r\n');
    const bare = ({ address }: Endpoint): string => address.replace(/%.*/, '');
    const family = familyOf(client.address) === 'IPv4' ? 'TCP4' : 'TCP6';
    return Buffer.from(
      `PROXY ${family} ${bare(client)} ${bare(destination)} ${client.port} ${destination.port}\r\n`,
    );
  }
  const ends = destination && [
    ...addressBytes(client.address),
    ...addressBytes(destination.address),
    ...portBytes(client),
    ...portBytes(destination),
  ];
  const body = Buffer.concat([
    Buffer.from(ends ?? []),
    ...(authority === undefined ? [] : [tlv(AUTHORITY, Buffer.from(authority))]),
    ...(uniqueId === undefined ? [] : [tlv(UNIQUE_ID, uniqueId)]),
  ]);
  const family = !ends ? UNSPECIFIED : familyOf(client.address) === 'IPv4' ? TCP4 : TCP6;
  return Buffer.concat([SIGNATURE, Buffer.from([PROXY, family, body.length >> 8, body.length & 0xff]), body]);
}
