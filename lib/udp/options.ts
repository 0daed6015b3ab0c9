// What createDatagramSocket() and its sockets are told, read and checked.
import { canonicalAddress } from '../address.ts';
import {
  checkBoolean,
  checkFd,
  checkInteger,
  checkSignal,
  invalidType,
  MAX_MS,
  outOfRange,
} from '../arguments.ts';
import { codedError } from '../errors.ts';
import { checkNamespace } from '../namespace/namespace.ts';
import { MAX_DATAGRAM, type PortOptions } from './datagram-port.ts';
import type { DatagramAddress, DatagramSocketOptions } from './types.ts';

/** Returns it in canonical form. */
function checkAddress(name: string, value: unknown): string {
  if (typeof value !== 'string') throw invalidType(name, 'of type string', value);
  const canonical = canonicalAddress(value);
  if (canonical === undefined) throw outOfRange(name, 'a literal IP address', value);
  return canonical;
}

/** Returns it in canonical form. */
export function checkDatagramAddress(name: string, value: unknown): DatagramAddress {
  if (typeof value !== 'object' || value === null) throw invalidType(name, 'of type object', value);
  const { port } = value as DatagramAddress;
  const address = checkAddress(`${name}.address`, (value as DatagramAddress).address);
  // 0 included: datagrams can come from there, and answering one must not throw. The kernel refuses it.
  checkInteger(`${name}.port`, port, 0, 65535);
  return { address, port };
}

function checkZones(name: string, value: unknown): asserts value is readonly number[] {
  if (!Array.isArray(value)) throw invalidType(name, 'an instance of Array', value);
  if (value.length === 0 || value.length > 16)
    throw outOfRange(`${name}.length`, '>= 1 && <= 16', value.length);
  for (const zone of value as unknown[]) checkInteger(name, zone, 0, 65535);
}

/** Throws if there is something that a bound socket cannot be told any more. */
function checkAdopted(fd: number, options: DatagramSocketOptions): void {
  checkFd(fd);
  for (const name of ['address', 'port', 'ipv6Only', 'namespace'] as const) {
    if (options[name] === undefined) continue;
    throw codedError(
      'ERR_INVALID_ARG_VALUE',
      `"options.${name}" is for a new socket, and "options.fd" is bound`,
      { base: TypeError },
    );
  }
}

/** Returns 0 for all in one datagram. An empty one has come with that for its length. */
export function checkSegmentSize(name: string, value = 0): number {
  checkInteger(name, value, 0, MAX_DATAGRAM);
  return value;
}

export function bytesOf(data: string | NodeJS.ArrayBufferView): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  if (data instanceof Uint8Array) return data;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw invalidType('data', 'of type string or an instance of Buffer, TypedArray, or DataView', data);
}

/** The same, every part of it. */
export interface ReadDatagramOptions {
  port: PortOptions;
  zones: readonly number[];
  maxReplies: number;
  replyTimeout: number;
  signal: AbortSignal | undefined;
}

/** Throws unless these are options of a datagram socket. */
export function readDatagramOptions(options: DatagramSocketOptions): ReadDatagramOptions {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  const { address = '::', port = 0, ipv6Only = false, transparent = false, mark = 0 } = options;
  const { receiveBufferSize = 0, maxSize = MAX_DATAGRAM, conntrackZones = [0, 1, 2] } = options;
  const { gro = false } = options;
  const { maxReplySockets = 256, replySocketTimeout = 30_000, namespace, fd, signal } = options;
  checkAddress('options.address', address);
  checkInteger('options.port', port, 0, 65535);
  checkBoolean('options.ipv6Only', ipv6Only);
  checkBoolean('options.transparent', transparent);
  checkInteger('options.mark', mark, 0, 2 ** 32 - 1);
  checkInteger('options.receiveBufferSize', receiveBufferSize, 0, 2 ** 30);
  checkInteger('options.maxSize', maxSize, 1, MAX_DATAGRAM);
  checkBoolean('options.gro', gro);
  // What comes together is cut off together.
  if (gro) checkInteger('options.maxSize', maxSize, MAX_DATAGRAM, MAX_DATAGRAM);
  checkZones('options.conntrackZones', conntrackZones);
  if (namespace !== undefined) checkNamespace('options.namespace', namespace);
  if (fd !== undefined) checkAdopted(fd, options);
  checkInteger('options.maxReplySockets', maxReplySockets, 1, 65536);
  checkInteger('options.replySocketTimeout', replySocketTimeout, 1, MAX_MS);
  checkSignal('options.signal', signal);
  return {
    port: {
      address,
      port,
      transparent,
      ipv6Only,
      reuseAddress: false,
      gro,
      mark,
      receiveBufferSize,
      maxSize,
      namespace: namespace?.fd ?? -1,
      fd,
    },
    zones: [...conntrackZones],
    maxReplies: maxReplySockets,
    replyTimeout: replySocketTimeout,
    signal,
  };
}
