// A server goes on counting the connections that it has accepted and relay() has taken over.
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import t from 'tap';
import { relay } from '../../lib/index.ts';
import { closed, outcome } from '../fixtures/relay-world.ts';

const count = (server: Server): Promise<number> => promisify(server.getConnections.bind(server))();

for (const engine of ['native', 'pipe'] as const) {
  t.test(`moved by ${engine}`, async (t) => {
    const accepted: Socket[] = [];
    const server = createServer({ allowHalfOpen: true }, (socket) => accepted.push(socket));
    server.maxConnections = 2;
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const dial = async (): Promise<Socket> => {
      const socket = connect(port, '127.0.0.1').on('error', () => {});
      t.teardown(() => socket.destroy());
      await once(server, 'connection');
      return socket;
    };
    // Both ends of the relay are the server's own, as of a tunnel whose other end dials in.
    const [left, right] = [await dial(), await dial()];
    const [client, upstream] = accepted as [Socket, Socket];
    const gone = [client, upstream].map((socket) => closed(socket));
    const joined = relay(client, upstream, { engine });
    left.write('x');
    await once(right, 'data');
    if (engine === 'native') await Promise.all(gone);
    t.equal(await count(server), 2);
    connect(port, '127.0.0.1').on('error', () => {});
    const [{ remotePort }] = (await once(server, 'drop')) as [{ remotePort: number }];
    t.type(remotePort, 'number', 'one too many');
    let isClosed = false;
    const over = once(server.close(), 'close').then(() => (isClosed = true));
    const ended = outcome(joined);
    left.end();
    await once(right.resume(), 'end');
    t.notOk(isClosed, 'close() waits for the relay');
    right.end();
    t.same(await ended, { reason: 'end' });
    await over;
    t.equal(await count(server), 0);
  });
}
