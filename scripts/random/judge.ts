// Compares what was recovered with what the client says it dialled (token.h), and counts.
import type { KnownDst } from '../../lib/index.ts';
import { SocketAddress } from 'node:net';
import { CLIENT_PATIENCE_MS, KINDS, type Kind } from './kinds.ts';

export const TOKEN_SIZE = 64;
const MAGIC = 0x5444534f;

/** Bits of the flags in token.h. */
const PLANS_RESET = 1;
const PLANS_LOSS = 2;
const AMID_FLUSH = 4;

/** TCP_RTO_MIN, in milliseconds: who has waited for so long may have sent again what had arrived. */
const RETRANSMISSION_MS = 200;

export interface Token {
  kind: number;
  flags: number;
  lane: number;
  sourcePort: number;
  sequence: number;
  /** CLOCK_MONOTONIC, ns. */
  started: bigint;
  address: string;
  port: number;
}

/** How a connection was accepted. */
export interface Accepted {
  /** The client had gone by then. */
  gone: boolean;
  /** CLOCK_MONOTONIC, ns. */
  at: bigint;
}

/** What the package said: as OriginalDst and as DatagramInfo. */
export type Found =
  | { kind: KnownDst['kind']; address: string; port: number }
  | { kind: 'unknown'; cause: NodeJS.ErrnoException };

/** A connection whose destination was recovered wrongly or not at all, or that came to a wrong place. */
export interface Wrong {
  kind: number;
  lane: number;
  sourcePort: number;
  sequence: number;
  flags: number;
  truth: string;
  found: string;
}

export interface Tally {
  right: number;
  wrong: number;
  /** Of all: clients that had gone when their connection was accepted. */
  gone: number;
  /** By cause and reason: `ENOENT: all entries were deleted`. */
  unknown: Record<string, number>;
  /** By cause. */
  unexplained: Record<string, number>;
}

const texts = new Map<string, string>();

function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const hex = bytes.toString('hex');
  let text = texts.get(hex);
  if (text === undefined) {
    text = new SocketAddress({ address: hex.match(/.{4}/g)!.join(':'), family: 'ipv6' }).address;
    texts.set(hex, text);
  }
  return text;
}

/** @throws where the bytes are no token: those of another connection, for example */
export function readToken(bytes: Buffer): Token {
  const kind = bytes.readUInt16LE(4);
  if (bytes.length !== TOKEN_SIZE || bytes.readUInt32LE(0) !== MAGIC || kind >= KINDS.length)
    throw new Error(`not a token: ${bytes.toString('hex')}`);
  const family = bytes.readUInt16LE(8);
  return {
    kind,
    flags: bytes.readUInt16LE(6),
    port: bytes.readUInt16LE(10),
    sourcePort: bytes.readUInt16LE(12),
    lane: bytes.readUInt16LE(14),
    sequence: bytes.readUInt32LE(16),
    started: bytes.readBigUInt64LE(24),
    address: addressText(bytes.subarray(32, family === 4 ? 36 : 48)),
  };
}

/** Why there may be no answer. Undefined: there ought to have been one. */
function explanation(
  kind: Kind,
  flags: number,
  cause: NodeJS.ErrnoException,
  waitedMs: number,
): string | undefined {
  const { code } = cause;
  if (waitedMs > CLIENT_PATIENCE_MS && (code === 'ENOTCONN' || code === 'ENOENT'))
    return 'its client gave up';
  if (code === 'ENOTCONN') {
    if (flags & PLANS_RESET) return 'reset before accept';
    // Packets of a connection without entry go where the client did not send them, and RST comes back.
    if (flags & (PLANS_LOSS | AMID_FLUSH)) return 'reset for want of its entry';
  }
  if (code === 'EADDRINUSE') {
    // Segments came to its socket that it could not use: those of the port's next connection, in want of its entry.
    if (flags & (PLANS_RESET | PLANS_LOSS | AMID_FLUSH) || kind.besideUntracked)
      return 'a stranger’s segments';
    if (waitedMs > RETRANSMISSION_MS) return 'its own segments, sent again';
  }
  if (code === 'ENOENT') {
    if (kind.untracked) return 'never tracked';
    if (flags & PLANS_LOSS) return 'its entry was deleted';
    if (flags & AMID_FLUSH) return 'all entries were deleted';
    // nf_conntrack_tcp_packet: SYN from the port of a closed connection deletes its entry and makes another.
    if (flags & PLANS_RESET) return 'its port was used again';
  }
  return undefined;
}

export class Judge {
  readonly tallies = new Map<number, Tally>();
  readonly #onWrong: (wrong: Wrong) => void;

  constructor(onWrong: (wrong: Wrong) => void) {
    this.#onWrong = onWrong;
  }

  judge(token: Token, found: Found, accepted?: Accepted): void {
    const gone = accepted?.gone ?? false;
    const tally = this.#tally(token.kind);
    const kind = KINDS[token.kind]!;
    if (gone) tally.gone++;
    if (found.kind === 'unknown') {
      const { code = 'no code' } = found.cause;
      const waitedMs = accepted ? Number(accepted.at - token.started) / 1e6 : 0;
      const why = explanation(kind, token.flags, found.cause, waitedMs);
      if (why !== undefined) {
        tally.unknown[`${code}: ${why}`] = (tally.unknown[`${code}: ${why}`] ?? 0) + 1;
        return;
      }
      tally.unexplained[code] = (tally.unexplained[code] ?? 0) + 1;
      this.#tell(token, `unknown ${code}, which nothing explains`);
    } else if (found.kind === kind.found && found.address === token.address && found.port === token.port) {
      tally.right++;
    } else {
      tally.wrong++;
      this.#tell(token, `${found.kind} ${found.address} ${found.port}${gone ? ', gone before accept' : ''}`);
    }
  }

  #tell({ kind, lane, sourcePort, sequence, flags, address, port }: Token, found: string): void {
    const truth = `${KINDS[kind]!.found} ${address} ${port}`;
    this.#onWrong({ kind, lane, sourcePort, sequence, flags, truth, found });
  }

  #tally(kind: number): Tally {
    let tally = this.tallies.get(kind);
    if (tally === undefined) {
      tally = { right: 0, wrong: 0, gone: 0, unknown: {}, unexplained: {} };
      this.tallies.set(kind, tally);
    }
    return tally;
  }
}
