// Sends COUNT requests through the proxy, one after the other: each on a connection of its own, which the server ends,
// or all on one. Usage: one-at-a-time-client.js ADDRESS COUNT connections|requests
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const [address, count, what] = process.argv.slice(2);

async function open(): Promise<Socket> {
  const socket = connect({ port: 80, host: address!, noDelay: true });
  await once(socket, 'connect');
  return socket;
}

function ask(socket: Socket, connection: 'close' | 'keep-alive'): void {
  socket.write(`GET /small HTTP/1.1\r\nHost: ${address}\r\nConnection: ${connection}\r\n\r\n`);
}

if (what === 'connections') {
  for (let missing = Number(count); missing > 0; missing--) {
    const socket = await open();
    ask(socket, 'close');
    socket.resume();
    await once(socket, 'close');
  }
} else {
  const socket = await open();
  for (let missing = Number(count); missing > 0; missing--) {
    ask(socket, 'keep-alive');
    await once(socket, 'data');
  }
  // It stays open until the count is taken.
  process.stdout.write('done\n');
  process.stdin.resume().once('end', () => process.exit());
}
