// The frames of a QUIC Initial packet, and what of the handshake they carry (RFC 9000 sections 12.4 and 19).

const PADDING = 0;
const PING = 1;
const ACK = 2;
const ACK_ECN = 3;
const CRYPTO = 6;
const CONNECTION_CLOSE = 0x1c;

/** A piece of the handshake's bytes. */
export interface CryptoPiece {
  offset: number;
  data: Buffer;
}

/** RFC 9000 section 16: a number of 1, 2, 4 or 8 bytes. Undefined if it is not all there, or is no length of anything. */
export function readVarint(bytes: Buffer, at: number): { value: number; end: number } | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  const size = 1 << (first >> 6);
  if (at + size > bytes.length) return undefined;
  if (size === 8) {
    const value = bytes.readBigUInt64BE(at) & 0x3fff_ffff_ffff_ffffn;
    return value > Number.MAX_SAFE_INTEGER ? undefined : { value: Number(value), end: at + size };
  }
  return { value: bytes.readUIntBE(at, size) & (2 ** (8 * size - 2) - 1), end: at + size };
}

/** Reads a frame's numbers one after the other. */
class Reader {
  at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get over(): boolean {
    return this.at >= this.#bytes.length;
  }

  number(): number {
    const read = readVarint(this.#bytes, this.at);
    if (read === undefined) throw new RangeError('no number');
    this.at = read.end;
    return read.value;
  }

  take(length: number): Buffer {
    if (length > this.#bytes.length - this.at) throw new RangeError('too short');
    return this.#bytes.subarray(this.at, (this.at += length));
  }
}

function skipAck(reader: Reader, ecn: boolean): void {
  reader.number();
  reader.number();
  const ranges = reader.number();
  reader.number();
  // Every range has at least two bytes: a count that lies ends with the bytes.
  for (let i = 0; i < ranges; i++) {
    reader.number();
    reader.number();
  }
  if (ecn) for (let i = 0; i < 3; i++) reader.number();
}

/** The pieces in a packet; undefined if a server would close the connection because of what is in it. */
export function cryptoPieces(frames: Buffer): CryptoPiece[] | undefined {
  const pieces: CryptoPiece[] = [];
  const reader = new Reader(frames);
  try {
    while (!reader.over) {
      const type = reader.number();
      if (type === CRYPTO) {
        const offset = reader.number();
        pieces.push({ offset, data: reader.take(reader.number()) });
      } else if (type === ACK || type === ACK_ECN) {
        skipAck(reader, type === ACK_ECN);
      } else if (type === CONNECTION_CLOSE) {
        reader.number();
        reader.number();
        reader.take(reader.number());
      } else if (type !== PADDING && type !== PING) {
        return undefined;
      }
    }
  } catch {
    return undefined;
  }
  return pieces;
}
