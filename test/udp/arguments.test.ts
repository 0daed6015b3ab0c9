// What createDatagramSocket refuses: arguments, and what the system does not allow.
import t from 'tap';
import { createDatagramSocket, type DatagramSocketOptions } from '../../lib/index.ts';

const LOOPBACK = { address: '127.0.0.1' };

t.test('arguments are checked', async (t) => {
  const wrong: [unknown, string, string][] = [
    [null, 'ERR_INVALID_ARG_TYPE', 'options'],
    [{ address: 1 }, 'ERR_INVALID_ARG_TYPE', 'options.address'],
    [{ address: 'localhost' }, 'ERR_OUT_OF_RANGE', 'options.address'],
    [{ port: 65536 }, 'ERR_OUT_OF_RANGE', 'options.port'],
    [{ ipv6Only: 1 }, 'ERR_INVALID_ARG_TYPE', 'options.ipv6Only'],
    [{ transparent: 1 }, 'ERR_INVALID_ARG_TYPE', 'options.transparent'],
    [{ mark: -1 }, 'ERR_OUT_OF_RANGE', 'options.mark'],
    [{ receiveBufferSize: 0.5 }, 'ERR_OUT_OF_RANGE', 'options.receiveBufferSize'],
    [{ gro: 1 }, 'ERR_INVALID_ARG_TYPE', 'options.gro'],
    [{ gro: true, maxSize: 1500 }, 'ERR_OUT_OF_RANGE', 'options.maxSize'],
    [{ maxSize: 0 }, 'ERR_OUT_OF_RANGE', 'options.maxSize'],
    [{ conntrackZones: 0 }, 'ERR_INVALID_ARG_TYPE', 'options.conntrackZones'],
    [{ conntrackZones: [] }, 'ERR_OUT_OF_RANGE', 'options.conntrackZones'],
    [{ conntrackZones: [65536] }, 'ERR_OUT_OF_RANGE', 'options.conntrackZones'],
    [{ maxReplySockets: 0 }, 'ERR_OUT_OF_RANGE', 'options.maxReplySockets'],
    [{ replySocketTimeout: 0 }, 'ERR_OUT_OF_RANGE', 'options.replySocketTimeout'],
    [{ fd: 9, address: '::' }, 'ERR_INVALID_ARG_VALUE', 'options.address'],
    [{ fd: 9, port: 0 }, 'ERR_INVALID_ARG_VALUE', 'options.port'],
    [{ fd: 9, ipv6Only: true }, 'ERR_INVALID_ARG_VALUE', 'options.ipv6Only'],
    [{ fd: -1 }, 'ERR_OUT_OF_RANGE', 'fd'],
  ];
  for (const [options, code, name] of wrong) {
    t.throws(() => createDatagramSocket(options as DatagramSocketOptions), {
      code,
      message: new RegExp(`"${name}`),
    });
  }
  const socket = createDatagramSocket(LOOPBACK);
  t.teardown(() => socket.close());
  const to = { destination: { address: '127.0.0.1', port: 9 } };
  t.throws(() => socket.send(1 as never, to), { code: 'ERR_INVALID_ARG_TYPE', message: /"data"/ });
  t.throws(() => socket.send('', null as never), { code: 'ERR_INVALID_ARG_TYPE', message: /"to"/ });
  t.throws(() => socket.send('', {} as never), { code: 'ERR_INVALID_ARG_TYPE', message: /"to.destination"/ });
  t.throws(() => socket.send('', { destination: { address: 'a', port: 9 } }), { code: 'ERR_OUT_OF_RANGE' });
  t.throws(() => socket.send('', { destination: { address: '::1', port: -1 } }), {
    code: 'ERR_OUT_OF_RANGE',
  });
  t.throws(() => socket.send('', { ...to, source: { address: '::1', port: 65536 } }), {
    code: 'ERR_OUT_OF_RANGE',
  });
  t.throws(() => socket.send('', { ...to, segmentSize: -1 }), { message: /"to.segmentSize"/ });
  t.throws(() => socket.reply('', { source: to.destination } as never, 65536), { message: /"segmentSize"/ });
  t.throws(() => socket.reply('', undefined as never), { code: 'ERR_INVALID_ARG_TYPE', message: /"info"/ });
  t.throws(() => socket.reply('', {} as never), { message: /"info.source"/ });
});

t.test('errors of the system are thrown at creation', async (t) => {
  const socket = createDatagramSocket(LOOPBACK);
  t.teardown(() => socket.close());
  const { port } = socket.address();
  t.throws(() => createDatagramSocket({ ...LOOPBACK, port }), { code: 'EADDRINUSE', syscall: 'bind', port });
  t.throws(() => createDatagramSocket({ address: '192.0.2.99' }), {
    code: 'EADDRNOTAVAIL',
    syscall: 'bind',
    address: '192.0.2.99',
  });
});
