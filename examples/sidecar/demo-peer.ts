// The programs around the demo's sidecar: the workload in the pod, and the servers and clients of the world outside.
//   demo-peer.js workload     HTTP on 8080 and 15090, in the pod
//   demo-peer.js remote       HTTP on 80, and a protocol in which the server speaks first on 5432, outside
//   demo-peer.js client HOST PORT    connects and prints what the server says
// The servers say whom they see as their client, and at which address.
import { once } from 'node:events';
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect, createServer as createTcp, type Server, type Socket } from 'node:net';

const at = (address = '?', port?: number): string =>
  `${address.replace('::ffff:', '')}${port ? ` ${port}` : ''}`;

function seen(socket: Socket): string {
  return `${at(socket.localAddress, socket.localPort)} saw ${at(socket.remoteAddress)}`;
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const wait = request.url === '/slow' ? 1500 : 0;
  setTimeout(() => response.end(seen(request.socket)), wait);
}

async function listen(...servers: Server[]): Promise<void> {
  await Promise.all(servers.map((server) => once(server, 'listening')));
  console.log('ready');
}

const [role, host, port] = process.argv.slice(2);
switch (role) {
  case 'workload':
    await listen(createHttp(answer).listen(8080), createHttp(answer).listen(15090));
    break;
  case 'remote':
    await listen(createHttp(answer).listen(80), createTcp((socket) => socket.end(seen(socket))).listen(5432));
    break;
  default:
    connect(Number(port), host).pipe(process.stdout);
}
