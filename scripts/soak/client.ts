// One client of the soak, from dial to end, and what it saw.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { untoldError } from '../../lib/node/untold-error.ts';

const MOST = 200_000;
const pattern = randomBytes(MOST);
const head = Buffer.from('GET / HTTP/1.1\r\nHost: soak.example\r\n\r\n');

export type Way = 'plain' | 'resets' | 'is reset' | 'dials nobody' | 'says nothing';
/** `cut`: FIN in the middle of the answer. `false bytes`: what was not sent. */
export type Seen = 'whole' | 'reset' | 'cut' | 'gave up' | 'false bytes';

/** Not the proxy's own address: it would take a client at the port of a recent dial for itself. */
const FIRST_ADDRESS = 11;
export const MOST_CLIENTS = 200;

/**
 * Each client's own. Where they share one, and most of its ports rest, one that is free after a RST is the next client's
 * within milliseconds, and nobody knows whose record is whose.
 */
export function addressOf(number: number): string {
  return `192.0.2.${FIRST_ADDRESS + number}`;
}

/** NAT gives who comes from the port of another's, to another destination, another port as long as conntrack knows both. */
export const NOBODYS_CLIENT = '192.0.2.250';

export interface Visit {
  way: Way;
  seen: Seen;
  /** The client's own end, by which the proxy knows it; without a port: never connected. */
  address: string;
  port: number | undefined;
  /** From dial to end, in milliseconds since the epoch. */
  began: number;
  ended: number;
  sent: number;
  got: number;
  /** Since the last byte was read, which a process that is late with everything may be late with too. */
  silentMs: number;
  error?: string | undefined;
}

/** How long a client waits: longer than any limit of the proxy. */
const PATIENCE_MS = 8000;

function words(way: Way): Buffer {
  if (way === 'is reset') return Buffer.from('R and no more');
  if (way === 'says nothing') return Buffer.alloc(0);
  const size = Math.floor(Math.random() ** 4 * MOST);
  const body = pattern.subarray(0, size + 1);
  return Math.random() < 0.5 ? Buffer.concat([head, body]) : Buffer.concat([Buffer.from('-'), body]);
}

export async function visit(number: number, way: Way): Promise<Visit> {
  const sent = words(way);
  const nobody = way === 'dials nobody';
  const host = nobody ? '203.0.113.1' : '198.51.100.7';
  const address = nobody ? NOBODYS_CLIENT : addressOf(number);
  const socket = connect({ port: 7000, host, localAddress: address, allowHalfOpen: true });
  const began = Date.now();
  return new Promise<Visit>((resolve) => {
    let got = 0;
    let heard = performance.now();
    let port: number | undefined;
    socket.once('connect', () => (port = socket.localPort));
    const over = (seen: Seen, error?: string): void => {
      clearTimeout(timer);
      socket.destroy();
      const times = { began, ended: Date.now(), silentMs: Math.round(performance.now() - heard) };
      resolve({ way, seen, address, port, sent: sent.length, got, ...times, error });
    };
    const timer = setTimeout(() => over('gave up'), PATIENCE_MS);
    socket.on('error', (error: NodeJS.ErrnoException) => over('reset', `${error.syscall} ${error.code}`));
    socket.on('data', (chunk: Buffer) => {
      const same = chunk.equals(sent.subarray(got, got + chunk.length));
      got += chunk.length;
      heard = performance.now();
      if (!same) over('false bytes');
      else if (way === 'resets') {
        socket.resetAndDestroy();
        over('reset', 'by itself');
      }
    });
    // A stream that was cut must not end in FIN, unless nothing had come yet. Node says that it has ended too where a RST
    // came right behind the last bytes.
    socket.on('end', () => {
      const error = untoldError(socket);
      if (error) over('reset', `${error.syscall} ${error.code}`);
      else over(got === sent.length ? 'whole' : got === 0 ? 'reset' : 'cut');
    });
    if (way !== 'says nothing') socket.end(sent);
    else setTimeout(() => socket.end(), 300);
  });
}
