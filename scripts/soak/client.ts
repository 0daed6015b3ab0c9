// One client of the soak, from dial to end, and whether what it saw was true.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';

const MOST = 200_000;
const pattern = randomBytes(MOST);
const head = Buffer.from('GET / HTTP/1.1\r\nHost: soak.example\r\n\r\n');

export type Way = 'plain' | 'resets' | 'is reset' | 'dials nobody' | 'says nothing';
/**
 * `silence`: nothing had come for so long that the proxy's limit has ended it. `wrong`: bytes that were not sent, or an end
 * that nobody has made.
 */
export type Fate = 'whole' | 'reset' | 'silence' | 'gave up' | 'wrong';

/** How long a client waits: longer than any limit of the proxy. */
const PATIENCE_MS = 8000;
/** Shorter than the proxy's idleTimeout and halfCloseTimeout. */
const SILENCE_MS = 1900;

function words(way: Way): Buffer {
  if (way === 'is reset') return Buffer.from('R and no more');
  if (way === 'says nothing') return Buffer.alloc(0);
  const size = Math.floor(Math.random() ** 4 * MOST);
  const body = pattern.subarray(0, size + 1);
  return Math.random() < 0.5 ? Buffer.concat([head, body]) : Buffer.concat([Buffer.from('-'), body]);
}

export async function visit(way: Way): Promise<Fate> {
  const sent = words(way);
  const host = way === 'dials nobody' ? '203.0.113.1' : '198.51.100.7';
  // Not the proxy's own address: it would take a client at the port of a recent dial for itself.
  const socket = connect({ port: 7000, host, localAddress: '192.0.2.11', allowHalfOpen: true });
  return new Promise<Fate>((resolve) => {
    let got = 0;
    let heard = performance.now();
    const over = (fate: Fate): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(fate);
    };
    const timer = setTimeout(() => over('gave up'), PATIENCE_MS);
    socket.on('error', () => over('reset'));
    socket.on('data', (chunk: Buffer) => {
      const same = chunk.equals(sent.subarray(got, got + chunk.length));
      got += chunk.length;
      heard = performance.now();
      if (!same) over('wrong');
      else if (way === 'resets') {
        socket.resetAndDestroy();
        over('reset');
      }
    });
    // A stream that was cut must not end in FIN, unless nothing had come yet.
    socket.on('end', () => {
      if (got === sent.length) over('whole');
      else if (got === 0) over('reset');
      else over(performance.now() - heard > SILENCE_MS ? 'silence' : 'wrong');
    });
    if (way !== 'says nothing') socket.end(sent);
    else setTimeout(() => socket.end(), 300);
  });
}
