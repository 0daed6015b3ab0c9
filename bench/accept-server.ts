// A server that closes what it accepts, and tells its port.
import { createServer as createNetServer, type AddressInfo } from 'node:net';
import { createServer, originalDst } from '../lib/index.ts';

const intercepted = process.argv[2] === 'intercept';
const server = intercepted
  ? createServer((socket) => {
      if (originalDst(socket)?.kind !== 'redirect') throw new Error('not recovered');
      socket.destroy();
    })
  : createNetServer((socket) => socket.destroy());

server.listen(0, '0.0.0.0', () => process.send!((server.address() as AddressInfo).port));
