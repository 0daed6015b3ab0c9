// One of the receivers of bench/udp.ts: counts datagrams, reads their destinations, echoes those of one byte. Prints
// its port, then, for each line on standard input, what it has received since the line before.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createDatagramSocket } from '../lib/index.ts';
import { tell } from './udp-teller.ts';

const RECEIVE_BUFFER = 1 << 20;

let received = 0;
let known = 0;

async function open(kind: string): Promise<number> {
  if (kind === 'node:dgram') {
    const socket = createSocket({ type: 'udp4', recvBufferSize: RECEIVE_BUFFER });
    socket.on('message', (data, from) => {
      received++;
      if (data.length === 1) socket.send(data, from.port, from.address);
    });
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    return socket.address().port;
  }
  const address = kind === 'original-dst' ? '127.0.0.1' : '0.0.0.0';
  const transparent = kind.endsWith('TPROXY');
  const socket = createDatagramSocket({ address, transparent, receiveBufferSize: RECEIVE_BUFFER });
  socket.on('message', (data, info) => {
    received++;
    if (info.destination !== undefined) known++;
    if (data.length === 1) socket.reply(data, info);
  });
  return socket.address().port;
}

tell(await open(process.argv[2]!), () => {
  const told = { received, known };
  [received, known] = [0, 0];
  return told;
});
