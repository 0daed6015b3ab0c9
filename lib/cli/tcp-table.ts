// The kernel's table of TCP sockets: has everything been accepted, acknowledged?
import { readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { familyOf } from '../address.ts';
import { parseCidr } from '../rules/config/ranges.ts';

const EVERY_MS = 50;

/** State as in the kernel's tcp_states.h. */
const SYN_RECV = 3;
const LISTEN = 10;
/** FIN_WAIT1, LAST_ACK, CLOSING: the program has closed it, and the peer has not yet acknowledged all. */
const UNACKNOWLEDGED = new Set([4, 9, 11]);

/** A TCP socket of this network namespace. */
export interface TcpSocket {
  /** Is its local address one of this host's? A transparent socket's may be any. */
  own: boolean;
  port: number;
  state: number;
  /** Bytes that nobody has read; of a listener: connections that nobody has accepted. */
  queue: number;
}

/** As /proc/net/tcp and tcp6 write an address: words of the host's byte order. */
function spell(address: string): string[] {
  const v6 = familyOf(address) === 'IPv6';
  const hex = parseCidr('', address)
    .first.toString(16)
    .padStart(v6 ? 32 : 8, '0');
  // A socket for both families has IPv4 addresses as mapped ones.
  return (v6 ? [hex] : [hex, `ffff${hex}`.padStart(32, '0')]).map((bytes) =>
    Array.from(new Uint32Array(Uint8Array.from(Buffer.from(bytes, 'hex')).buffer), (word) =>
      word.toString(16).padStart(8, '0'),
    ).join(''),
  );
}

const LINE =
  /^ *\d+: (?<address>[0-9A-F]+):(?<port>[0-9A-F]{4}) \S+ (?<state>[0-9A-F]{2}) [0-9A-F]+:(?<queue>[0-9A-F]+)/gm;

/** `/proc/net/tcp` and `/proc/net/tcp6`; without IPv6 there is no second. */
export async function tcpSockets(directory = '/proc/net'): Promise<TcpSocket[]> {
  const texts = await Promise.all(
    ['tcp', 'tcp6'].map((file) => readFile(`${directory}/${file}`, 'utf8').catch(() => '')),
  );
  const interfaces = Object.values(networkInterfaces()).flatMap((addresses) => addresses!);
  const own = new Set(interfaces.flatMap(({ address }) => spell(address)));
  return [...texts.join('').matchAll(LINE)].map(({ groups }) => ({
    own: own.has(groups!['address']!.toLowerCase()),
    port: Number.parseInt(groups!['port']!, 16),
    state: Number.parseInt(groups!['state']!, 16),
    queue: Number.parseInt(groups!['queue']!, 16),
  }));
}

async function untilNone(some: (socket: TcpSocket) => boolean, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await tcpSockets()).some(some)) await delay(EVERY_MS);
}

/**
 * Resolves when every connection that has begun to come to the listener at that port has been accepted and is known
 * to the program, or when the signal tells. Under TPROXY a handshake does not show whose it is: all are waited for.
 */
export async function allAccepted(port: number, signal: AbortSignal): Promise<void> {
  await untilNone(
    ({ port: own, state, queue }) => state === SYN_RECV || (state === LISTEN && own === port && queue > 0),
    signal,
  );
  // A thread of the addon accepts: what it has got may still be on its way to JavaScript.
  if (!signal.aborted) await delay(EVERY_MS);
}

/**
 * Resolves when peers have acknowledged all that was sent on connections which need rules, up to their FIN, or when
 * the signal tells: those that were redirected to that port, and those from or to addresses of others.
 */
export function allAcknowledged(port: number, signal: AbortSignal): Promise<void> {
  return untilNone(
    (socket) => UNACKNOWLEDGED.has(socket.state) && (socket.port === port || !socket.own),
    signal,
  );
}
