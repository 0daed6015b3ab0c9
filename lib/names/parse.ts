// Reads what the addon's parsers have found out about a client's first bytes.
import { binding } from '../binding.ts';
import type { FirstBytes } from './first-bytes.ts';

/** struct FirstBytes of src/names/first_bytes.h. */
const PROTOCOLS = ['other', 'tls', 'http', 'http2', 'silent'] as const;
const ECH = 1;
const NAME_LENGTH = 2;
const VERSION_COUNT = 3;
const ALPN_LENGTH = 4;
const METHOD_LENGTH = 6;
const METHOD_AT = 8;
const TARGET_AT = 12;
const TARGET_LENGTH = 16;
const VERSIONS = 20;
const NAME = 28;
const ALPN = 284;

/** By the second byte of the version. */
const VERSION_NAMES = ['SSLv3', 'TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const;

interface Memory {
  readonly text: Buffer;
  readonly view: DataView;
}

let memory: Memory | undefined;

function answer(): Memory {
  if (memory) return memory;
  const buffer = binding().firstBytes;
  return (memory = { text: Buffer.from(buffer), view: new DataView(buffer) });
}

function readAlpn(text: Buffer, length: number): string[] {
  const protocols: string[] = [];
  for (let at = ALPN; at < ALPN + length; at += 1 + text[at]!) {
    protocols.push(text.toString('latin1', at + 1, at + 1 + text[at]!));
  }
  return protocols;
}

/** In a loop: with Array.from and a view it takes as long as all the rest. */
function readVersions(text: Buffer, count: number): string[] {
  const names: string[] = [];
  for (let at = VERSIONS; at < VERSIONS + count; at++) names.push(VERSION_NAMES[text[at]!]!);
  return names;
}

/** The machine's own byte order, as the addon's. */
const LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** As the addon numbers them. */
export function protocolNumber(protocol: FirstBytes['protocol']): number {
  return PROTOCOLS.indexOf(protocol);
}

export function protocolOf(number: number): FirstBytes['protocol'] {
  return PROTOCOLS[number]!;
}

/** What the addon has left in memory about `bytes`, which become the answer's. */
export function readFirstBytes(bytes: Buffer): FirstBytes {
  const { text, view } = answer();
  const nameLength = text[NAME_LENGTH]!;
  const versions = text[VERSION_COUNT]!;
  const alpnLength = view.getUint16(ALPN_LENGTH, LITTLE_ENDIAN);
  const methodLength = view.getUint16(METHOD_LENGTH, LITTLE_ENDIAN);
  const first: { -readonly [Key in keyof FirstBytes]: FirstBytes[Key] } = {
    protocol: PROTOCOLS[text[0]!]!,
    ech: text[ECH] === 1,
    bytes,
  };
  if (nameLength > 0) first.name = text.toString('latin1', NAME, NAME + nameLength);
  if (alpnLength > 0) first.alpn = readAlpn(text, alpnLength);
  if (versions > 0) first.tlsVersions = readVersions(text, versions);
  if (methodLength > 0) {
    const methodAt = view.getUint32(METHOD_AT, LITTLE_ENDIAN);
    const targetAt = view.getUint32(TARGET_AT, LITTLE_ENDIAN);
    first.method = bytes.toString('latin1', methodAt, methodAt + methodLength);
    first.target = bytes.toString(
      'latin1',
      targetAt,
      targetAt + view.getUint32(TARGET_LENGTH, LITTLE_ENDIAN),
    );
  }
  return first;
}

/**
 * Looks at all that a client has sent so far. `need`: how many bytes there must be before more is known; 0: no more
 * would change the answer. `bytes` become the answer's.
 */
export function parseFirstBytes(bytes: Buffer): { first: FirstBytes; need: number } {
  const need = binding().parseFirstBytes(bytes);
  return { first: readFirstBytes(bytes), need };
}
