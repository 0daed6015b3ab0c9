// What the first datagrams of a QUIC client say: the name that it asks for.
import { invalidType } from '../arguments.ts';
import type { FirstBytes } from './first-bytes.ts';
import { parseFirstBytes } from './parse.ts';
import { cryptoPieces, type CryptoPiece } from './quic-frames.ts';
import { ClientKeys, findInitials, type InitialPacket } from './quic-initial.ts';

/** What is known of a UDP flow from the client's first datagrams. A claim of the client's, as {@link FirstBytes} are. */
export interface QuicFirstBytes extends Pick<FirstBytes, 'name' | 'alpn' | 'tlsVersions' | 'ech'> {
  /** `'quic'` when an Initial packet of version 1 or 2 is among them, whole and untouched; else `'udp'`. */
  readonly protocol: 'quic' | 'udp';
  /** 1 (RFC 9000) or 2 (RFC 9369). */
  readonly version?: 1 | 2;
  /** Would no further datagram change the answer? False: ask again when there is one more. */
  readonly complete: boolean;
}

/** More datagrams than these are not looked at. The largest hellos of browsers take two. */
const MOST_DATAGRAMS = 16;
/** As {@link inspect} has it. */
const MOST_BYTES = 16_384;
/** A client that was sent a Retry, or another version, begins again; one that does so for ever is not waited for. */
const MOST_ATTEMPTS = 4;
const HELLO = 1;
const MESSAGE_HEADER = 4;

/** A connection that the client has begun: its own keys, its own handshake. */
class Attempt {
  readonly version: 1 | 2;
  /** It has said what no server takes, or twice what cannot both be true. */
  broken = false;
  readonly #keys: ClientKeys;
  readonly #bytes = Buffer.alloc(MOST_BYTES);
  /** Which of the bytes have arrived; the one behind the last never does. */
  readonly #there = Buffer.alloc(MOST_BYTES + 1);
  #end = 0;

  constructor(version: number, keys: ClientKeys) {
    this.version = version === 1 ? 1 : 2;
    this.#keys = keys;
  }

  /** Is the packet this connection's? */
  take(packet: InitialPacket): boolean {
    const frames = this.#keys.open(packet);
    if (frames === undefined) return false;
    const pieces = cryptoPieces(frames);
    if (pieces === undefined || !pieces.every((piece) => this.#add(piece))) this.broken = true;
    return true;
  }

  #add({ offset, data }: CryptoPiece): boolean {
    const end = offset + data.length;
    if (end > MOST_BYTES) return false;
    this.#end = Math.max(this.#end, end);
    for (const [i, byte] of data.entries()) {
      const at = offset + i;
      if (this.#there[at] === 1 && this.#bytes[at] !== byte) return false;
      this.#bytes[at] = byte;
      this.#there[at] = 1;
    }
    return true;
  }

  /** What its ClientHello says, as soon as that is there; a broken one says nothing. */
  get said(): FirstBytes | undefined {
    const nothing = { protocol: 'tls', ech: false, bytes: this.#bytes } as const;
    if (this.broken) return nothing;
    const have = this.#there.indexOf(0);
    if (have < MESSAGE_HEADER) return have > 0 && this.#bytes[0] !== HELLO ? nothing : undefined;
    const whole = MESSAGE_HEADER + this.#bytes.readUIntBE(1, 3);
    if (this.#bytes[0] !== HELLO || whole > MOST_BYTES || whole < this.#end) return nothing;
    if (have < whole) return undefined;
    // The parser reads messages in records (RFC 8446 section 5.1), of which QUIC has none.
    const record = Buffer.concat([
      Buffer.of(22, 3, 1, whole >> 8, whole & 0xff),
      this.#bytes.subarray(0, whole),
    ]);
    return parseFirstBytes(record).first;
  }
}

/** The packet's own connection, or the one that it begins. */
function attemptOf(packet: InitialPacket, attempts: Attempt[]): void {
  if (attempts.some((attempt) => attempt.take(packet))) return;
  const keys = ClientKeys.of(packet);
  if (keys === undefined || attempts.length === MOST_ATTEMPTS) return;
  const attempt = new Attempt(packet.version, keys);
  if (attempt.take(packet)) attempts.push(attempt);
}

/** The last word of several connections in one flow: a name only if all that have one agree. */
function together(attempts: readonly Attempt[]): Omit<QuicFirstBytes, 'complete'> | undefined {
  const all = attempts.map((attempt) => ({ version: attempt.version, said: attempt.said }));
  const last = all.findLast(({ said }) => said !== undefined);
  if (last?.said === undefined) return undefined;
  const { name, alpn, tlsVersions } = last.said;
  const agreed = all.every(({ said }) => said === undefined || said.name === name);
  return {
    protocol: 'quic',
    version: last.version,
    ...(name === undefined || !agreed ? {} : { name }),
    ...(alpn === undefined ? {} : { alpn }),
    ...(tlsVersions === undefined ? {} : { tlsVersions }),
    ech: all.some(({ said }) => said?.ech),
  };
}

/**
 * Says what a UDP flow's first datagrams are: the ClientHello in the CRYPTO frames of a QUIC client's Initial packets
 * (RFC 9000, RFC 9001, RFC 9369), which may be spread over several datagrams, in any order, some of them twice. Pure: give
 * it all datagrams of the flow so far, and again with one more while the answer is not `complete`.
 *
 * No name comes from a version that is not known here, a datagram that was changed on its way, frames that a server
 * must refuse, or a hello that is told in two ways. It is that of the connection that the flow begins with: others may
 * follow from the same port.
 *
 * @param datagrams the client's, in the order of their arrival; of more than 16 only the first are looked at
 * @throws `ERR_INVALID_ARG_TYPE`; `ERR_BINDING_NOT_LOADED`, `ERR_UNSUPPORTED_PLATFORM`
 */
export function inspectQuic(datagrams: readonly Uint8Array[]): QuicFirstBytes {
  if (!Array.isArray(datagrams)) throw invalidType('datagrams', 'an instance of Array', datagrams);
  const attempts: Attempt[] = [];
  let known = datagrams.length === 0;
  for (const each of datagrams.slice(0, MOST_DATAGRAMS) as unknown[]) {
    if (!(each instanceof Uint8Array)) throw invalidType('datagrams', 'an array of Uint8Array', each);
    const packets = findInitials(Buffer.from(each.buffer, each.byteOffset, each.byteLength));
    known ||= packets.known;
    for (const packet of packets.initials) attemptOf(packet, attempts);
  }
  const answer = together(attempts);
  if (answer) return { ...answer, complete: true };
  const complete = !known || datagrams.length >= MOST_DATAGRAMS;
  const [first] = attempts;
  if (first === undefined) return { protocol: 'udp', ech: false, complete };
  return { protocol: 'quic', version: first.version, ech: false, complete };
}
