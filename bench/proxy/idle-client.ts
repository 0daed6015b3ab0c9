// Opens COUNT connections through the proxy, sends a request on each, so that the proxy has accepted, dialled and
// relayed, says so, and holds them until its standard input ends. Exits at once when one of them ends before.
// Usage: idle-client.js ADDRESS COUNT
import { once } from 'node:events';
import { connect } from 'node:net';

const AT_ONCE = 32;
const [address, count] = process.argv.slice(2);

async function open(): Promise<void> {
  const socket = connect(80, address!);
  socket.once('close', () => process.exit(1));
  await once(socket, 'connect');
  socket.write(`GET /small HTTP/1.1\r\nHost: ${address}\r\n\r\n`);
  await once(socket, 'data');
}

for (let missing = Number(count); missing > 0; missing -= AT_ONCE) {
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, missing) }, open));
}
process.stdout.write('open\n');
process.stdin.resume().once('end', () => process.exit());
