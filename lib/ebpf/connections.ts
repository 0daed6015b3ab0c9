// Connections that a capture has led here and that are not over yet, as the kernel lists its sockets.
import { readFileSync } from 'node:fs';
import { ALIAS_PREFIX } from './config.ts';

/** TCP_TIME_WAIT, TCP_CLOSE, TCP_LISTEN of the kernel's include/net/tcp_states.h. */
const OVER: ReadonlySet<string> = new Set(['06', '07', '0A']);

/** An IPv4-mapped address of 127.128.0.0/9, or an IPv4 one, as /proc/net/tcp writes it on a little-endian machine. */
const ALIAS4 = /^(?:0000000000000000FFFF0000)?[\dA-F]{4}[89A-F][\dA-F]7F$/;

/** The first 64 bits of the port's aliases, likewise. */
function prefix6(port: number): string {
  const words = new DataView(new ArrayBuffer(8));
  words.setUint32(0, ALIAS_PREFIX, true);
  words.setUint32(4, port, true);
  return Buffer.from(words.buffer).toString('hex').toUpperCase();
}

/** /proc/net/tcp and tcp6: is a socket of this network namespace connected at an alias of that port? */
export function hasConnections(
  port: number,
  tables = [readFileSync('/proc/net/tcp', 'utf8'), readFileSync('/proc/net/tcp6', 'utf8')],
): boolean {
  const hexadecimal = port.toString(16).toUpperCase().padStart(4, '0');
  const six = prefix6(port);
  return tables.some((table) =>
    table.split('\n').some((line) => {
      const [, local, , state] = line.trim().split(/\s+/);
      const [address = '', at] = local?.split(':') ?? [];
      if (at !== hexadecimal || OVER.has(state!)) return false;
      return ALIAS4.test(address) || address.startsWith(six);
    }),
  );
}
