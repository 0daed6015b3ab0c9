// Whom the clients of the soak dial: an echo server that resets a connection whose first byte is R.
import { createServer } from 'node:net';

const server = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {});
  socket.setTimeout(10_000, () => socket.destroy());
  socket.once('data', (first: Buffer) => {
    if (first[0] === 0x52) {
      socket.resetAndDestroy();
      return;
    }
    socket.write(first);
    socket.pipe(socket);
  });
  socket.once('end', () => socket.end());
});
server.listen(7000, () => process.stdout.write('ready\n'));
