// Opens COUNT connections through the proxy, says so, and holds them until its standard input ends.
// Usage: idle-client.js ADDRESS COUNT
import { connect, type Socket } from 'node:net';

const [address, count] = process.argv.slice(2);
const sockets: Socket[] = [];
for (let opened = 0; opened < Number(count); opened++) {
  const socket = connect(80, address!);
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  sockets.push(socket);
}
process.stdout.write('open\n');
process.stdin.resume().once('end', () => {
  for (const socket of sockets) socket.destroy();
});
