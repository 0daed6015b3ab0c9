// QUIC Initial packets of clients: found in a datagram, and decrypted. Their keys are no secret: whoever sees the
// connection ID can make them (RFC 9001 section 5, RFC 9369).
import { crypto } from '../node/on-demand.ts';
import { readVarint } from './quic-frames.ts';

/** What the two versions do not have in common. */
interface Version {
  salt: Buffer;
  label: 'quic' | 'quicv2';
  /** The types of long headers that have a length; an Initial's first. */
  types: readonly [initial: number, zeroRtt: number, handshake: number];
}

const VERSIONS: ReadonlyMap<number, Version> = new Map([
  [
    0x00000001,
    { salt: Buffer.from('38762cf7f55934b34d179ae6a4c80cadccbb7f0a', 'hex'), label: 'quic', types: [0, 1, 2] },
  ],
  [
    0x6b3343cf,
    {
      salt: Buffer.from('0dede3def700a6db819381be6e269dcbf9bd2ed9', 'hex'),
      label: 'quicv2',
      types: [1, 2, 3],
    },
  ],
]);

/** RFC 9000 section 14.1: a server discards an Initial in a smaller one. */
const SMALLEST_DATAGRAM = 1200;
/** RFC 9000 section 7.2: as chosen by a client; section 17.2: as chosen by anybody. */
const SHORTEST_FIRST_ID = 8;
const LONGEST_ID = 20;
/** More Initial packets of one datagram are not looked at: it takes a cipher to look. */
const MOST_INITIALS = 4;
const SAMPLE = 16;
const TAG = 16;
const LONGEST_NUMBER = 4;

/** An Initial packet as it was sent. */
export interface InitialPacket {
  version: number;
  /** The Destination Connection ID. */
  id: Buffer;
  /** From the first byte to the end of what the tag protects. */
  bytes: Buffer;
  /** Where the packet number begins. */
  numberAt: number;
}

/** What a datagram consists of, as far as it can be told. */
export interface Packets {
  /** Is it a long header of a version that is known here? */
  known: boolean;
  initials: InitialPacket[];
}

/** Reads one packet with a long header; undefined where it cannot be skipped, or is none. */
function readPacket(
  bytes: Buffer,
): { version: number; initial: boolean; packet: InitialPacket; end: number } | undefined {
  // The fixed bit has to be set, too: only who has been told so may clear it (RFC 9287), and a first packet's sender has not.
  if (bytes.length < 7 || (bytes[0]! & 0xc0) !== 0xc0) return undefined;
  const version = bytes.readUInt32BE(1);
  const known = VERSIONS.get(version);
  const type = known?.types.indexOf((bytes[0]! >> 4) & 3) ?? -1;
  const idEnd = 6 + bytes[5]!;
  const sourceEnd = idEnd + 1 + (bytes[idEnd] ?? 0);
  if (type < 0 || bytes[5]! > LONGEST_ID || sourceEnd - idEnd - 1 > LONGEST_ID) return undefined;
  let at: number | undefined = sourceEnd;
  if (type === 0) {
    const token = readVarint(bytes, at);
    at = token && token.end + token.value;
  }
  const length = at === undefined ? undefined : readVarint(bytes, at);
  if (length === undefined || length.end + length.value > bytes.length) return undefined;
  const end = length.end + length.value;
  const packet = {
    version,
    id: bytes.subarray(6, idEnd),
    bytes: bytes.subarray(0, end),
    numberAt: length.end,
  };
  return { version, initial: type === 0, packet, end };
}

/**
 * The Initial packets of a datagram: several may be in one, with others beside them. Those that a server is bound to
 * discard are left out.
 */
export function findInitials(datagram: Buffer): Packets {
  const initials: InitialPacket[] = [];
  const first = readPacket(datagram);
  if (first === undefined) return { known: false, initials };
  for (let read: typeof first | undefined = first, rest = datagram; read; read = readPacket(rest)) {
    const { initial, packet, end } = read;
    // RFC 9000 section 12.2: all of a datagram are of one connection.
    const counts = initial && packet.id.equals(first.packet.id) && datagram.length >= SMALLEST_DATAGRAM;
    if (counts && initials.length < MOST_INITIALS) initials.push(packet);
    rest = rest.subarray(end);
  }
  return { known: true, initials };
}

/** HKDF-Expand-Label (RFC 8446 section 7.1) of at most one block, without a context. */
function expand(secret: Buffer, label: string, length: number): Buffer {
  const text = `tls13 ${label}`;
  const info = Buffer.concat([Buffer.of(0, length, text.length), Buffer.from(text), Buffer.of(0, 1)]);
  return crypto().createHmac('sha256', secret).update(info).digest().subarray(0, length);
}

/** What a client's Initial packets are protected with. */
export class ClientKeys {
  readonly #key: Buffer;
  readonly #iv: Buffer;
  readonly #headerKey: Buffer;
  readonly #version: number;

  private constructor(version: number, { salt, label }: Version, id: Buffer) {
    const initial = crypto().createHmac('sha256', salt).update(id).digest();
    const secret = expand(initial, 'client in', 32);
    this.#version = version;
    this.#key = expand(secret, `${label} key`, 16);
    this.#iv = expand(secret, `${label} iv`, 12);
    this.#headerKey = expand(secret, `${label} hp`, 16);
  }

  /** Those of the connection that begins with that packet, if one may begin so. */
  static of({ version, id }: InitialPacket): ClientKeys | undefined {
    if (id.length < SHORTEST_FIRST_ID) return undefined;
    return new ClientKeys(version, VERSIONS.get(version)!, id);
  }

  /** The frames in a packet; undefined if these are not its keys, or somebody has changed it on its way. */
  open({ version, bytes, numberAt }: InitialPacket): Buffer | undefined {
    if (version !== this.#version || bytes.length < numberAt + LONGEST_NUMBER + SAMPLE) return undefined;
    const sample = bytes.subarray(numberAt + LONGEST_NUMBER, numberAt + LONGEST_NUMBER + SAMPLE);
    const mask = crypto().createCipheriv('aes-128-ecb', this.#headerKey, null).update(sample);
    const first = bytes[0]! ^ (mask[0]! & 0x0f);
    const numberEnd = numberAt + (first & 3) + 1;
    const header = Buffer.from(bytes.subarray(0, numberEnd));
    header[0] = first;
    const nonce = Buffer.from(this.#iv);
    // The first packets of a connection: their numbers are whole, without what RFC 9000 appendix A.3 adds.
    for (let at = numberAt; at < numberEnd; at++) {
      header[at]! ^= mask[1 + at - numberAt]!;
      nonce[nonce.length - numberEnd + at]! ^= header[at]!;
    }
    const decipher = crypto().createDecipheriv('aes-128-gcm', this.#key, nonce);
    decipher.setAAD(header).setAuthTag(bytes.subarray(-TAG));
    const frames = decipher.update(bytes.subarray(numberEnd, -TAG));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    // RFC 9000 section 17.2: the reserved bits are zero.
    return (first & 0x0c) === 0 ? frames : undefined;
  }
}
