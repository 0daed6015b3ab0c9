// Descriptors behind Node's sockets and servers.
import { fstatSync, openSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer, Socket, type AddressInfo } from 'node:net';
import t from 'tap';
import { acceptingServer, handleFd, listenHandle, socketFd, withHandleFd } from '../../lib/node/socket-fd.ts';

t.test('of servers and accepted sockets', async (t) => {
  const server = createServer();
  t.equal(socketFd(server), undefined);
  t.equal(listenHandle(server), null);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.ok(fstatSync(socketFd(server)!).isSocket());
  t.type(listenHandle(server), 'object');

  const connection = once(server, 'connection');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const [socket] = (await connection) as [Socket];
  const fd = socketFd(socket)!;
  t.ok(fstatSync(fd).isSocket());
  t.not(fd, socketFd(server));
  t.equal(acceptingServer(socket), server);
  t.equal(acceptingServer(client), undefined);

  socket.destroy();
  client.destroy();
  t.equal(socketFd(socket), undefined, 'a closed socket has none');
  server.close();
  await once(server, 'close');
  t.equal(socketFd(server), undefined);
});

t.test('of things that are no sockets', async (t) => {
  t.equal(socketFd(new Socket()), undefined);
  for (const none of [undefined, null, {}, { fd: -1 }, { fd: '3' }]) t.equal(handleFd(none), undefined);
  t.equal(handleFd({ fd: 0 }), 0);
});

t.test('a runtime that shows only a duplicate', async (t) => {
  const open = (): number => openSync('/dev/null', 'r');
  let duplicate = -1;
  const handle = { fdForIpc: () => (duplicate = open()) };
  t.ok(withHandleFd(handle, (fd) => fstatSync(fd).isCharacterDevice()));
  t.throws(() => fstatSync(duplicate), { code: 'EBADF' }, 'closed afterwards');
  t.throws(
    () =>
      withHandleFd(handle, () => {
        throw new Error('of the caller');
      }),
    { message: 'of the caller' },
  );
  t.throws(() => fstatSync(duplicate), { code: 'EBADF' }, 'closed all the same');
  t.equal(
    withHandleFd({ fdForIpc: () => -9 }, () => 1),
    undefined,
  );
  t.equal(
    withHandleFd({}, () => 1),
    undefined,
  );
});
