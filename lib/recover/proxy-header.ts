// What a proxy in front has said of a connection: the PROXY protocol's header, kept on the accepted socket.
import type { Socket } from 'node:net';
import { canonicalAddress, familyOf, type Endpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { underlyingSocket } from '../node/socket-fd.ts';

/** A type-length-value of a version 2 header. Source: proxy-protocol.txt, section 2.2. */
export interface ProxyTlv {
  type: number;
  value: Buffer;
}

/** The header of a connection. `authority` and all other TLVs are claims, as good as the proxy that makes them. */
export interface ProxyHeader {
  version: 1 | 2;
  /** Who has dialled the proxy. Undefined: the proxy speaks for itself (LOCAL), or does not know (UNKNOWN, UNSPEC). */
  client?: Endpoint;
  /** Where the client has dialled. */
  destination?: Endpoint;
  /** PP2_TYPE_AUTHORITY: the host name that the client wants. */
  authority?: string;
  /** PP2_TYPE_UNIQUE_ID: the proxy's own name for the connection. */
  uniqueId?: Buffer;
  tlvs: readonly ProxyTlv[];
}

const AUTHORITY = 0x02;
const UNIQUE_ID = 0x05;

/** The addon has seen that they fill their place to the byte. */
function readTlvs(bytes: Buffer): ProxyTlv[] {
  const found: ProxyTlv[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = at + 3 + bytes.readUInt16BE(at + 1);
    found.push({ type: bytes[at]!, value: Buffer.from(bytes.subarray(at + 3, end)) });
    at = end;
  }
  return found;
}

function endpoint(address: string, port: number): Endpoint {
  return { address, port, family: familyOf(address) };
}

/** The header at the beginning of the bytes; a number: how many there must be at least, or a negative errno. */
export function parseProxyHeader(bytes: Buffer): ProxyHeader | number {
  const parsed = binding().parseProxyHeader(bytes);
  if (typeof parsed === 'number') return parsed;
  const [length, version, tlvAt, clientAddress, clientPort, address, port] = parsed;
  const tlvs = readTlvs(bytes.subarray(tlvAt, length));
  const value = (type: number): Buffer | undefined => tlvs.find((tlv) => tlv.type === type)?.value;
  const authority = value(AUTHORITY);
  const uniqueId = value(UNIQUE_ID);
  return {
    version,
    ...(clientAddress === undefined
      ? {}
      : { client: endpoint(clientAddress, clientPort!), destination: endpoint(address!, port!) }),
    ...(authority === undefined ? {} : { authority: authority.toString() }),
    ...(uniqueId === undefined ? {} : { uniqueId }),
    tlvs,
  };
}

/** As of originalDst: a property, which http2's Proxy of a socket passes on. */
const headerKey = Symbol('proxyHeader');

interface Annotated {
  [headerKey]?: ProxyHeader;
}

export function setProxyHeader(socket: Socket, header: ProxyHeader): void {
  (socket as Annotated)[headerKey] = header;
}

/**
 * The PROXY protocol's header that came with an accepted connection, also through TLS and HTTP/2; undefined when its
 * peer is none of those that send one (option `proxyProtocol`). No system call.
 */
export function proxyHeader(socket: object): ProxyHeader | undefined {
  for (let current: object | undefined = socket; current; current = underlyingSocket(current)) {
    const header = (current as Annotated)[headerKey];
    if (header !== undefined) return header;
  }
  return undefined;
}

/**
 * Who has dialled: the client that the PROXY protocol's header names, else `getpeername(2)`. Undefined for a socket
 * that has been reset before anybody asked.
 */
export function clientOf(socket: Socket): Endpoint | undefined {
  const client = proxyHeader(socket)?.client;
  if (client !== undefined) return { ...client };
  const { remoteAddress, remotePort } = socket;
  if (remoteAddress === undefined) return undefined;
  return endpoint(canonicalAddress(remoteAddress)!, remotePort!);
}
