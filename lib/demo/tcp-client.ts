// A plain TCP client of the demo, a process of its own on the client's host:
//   tcp-client.js ADDRESS PORT LOCAL_PORT BYTES
// Sends so many random bytes and FIN, and prints what it sent and what came back before the other side's FIN.
import { createHash, randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';

/** What the client prints, as JSON. */
export interface Exchange {
  sha256: string;
  received: string;
}

const [host, port, localPort, size] = process.argv.slice(2);
const payload = randomBytes(Number(size));
const socket = connect({
  host: host!,
  port: Number(port),
  localPort: Number(localPort),
  allowHalfOpen: true,
  signal: AbortSignal.timeout(10_000),
});
socket.end(payload);
try {
  const exchange: Exchange = {
    sha256: createHash('sha256').update(payload).digest('hex'),
    received: await text(socket),
  };
  console.log(JSON.stringify(exchange));
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
