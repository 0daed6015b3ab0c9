// Opens COUNT connections through the proxy, AT_ONCE at a time, to as many destinations as there are: one after the other,
// each again when all have had their turn. On each a request, which the server answers and ends. The server ends first, or
// the proxy would end each of its dials first and keep its port for a minute: see topology.ts.
// Usage: destinations-client.js DESTINATIONS COUNT
import { once } from 'node:events';
import { connect } from 'node:net';

const AT_ONCE = 16;
const [destinations, count] = process.argv.slice(2).map(Number) as [number, number];
let next = 0;

async function visit(): Promise<void> {
  while (next < count) {
    const at = next++ % destinations;
    const socket = connect(80, `198.18.${at >> 8}.${at & 0xff}`);
    socket.write('GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    socket.resume();
    await once(socket, 'close');
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, visit));
