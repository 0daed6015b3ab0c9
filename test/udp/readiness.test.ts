// Who says that a socket can be read: the event loop, at each turn, until it is told to rest.
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { createDatagramSocket } from '../../lib/index.ts';
import { DatagramPort } from '../../lib/udp/datagram-port.ts';
import { client, nextMessage } from '../fixtures/udp.ts';

const OPTIONS = {
  address: '127.0.0.1',
  port: 0,
  transparent: false,
  ipv6Only: false,
  reuseAddress: false,
  gro: false,
  mark: 0,
  receiveBufferSize: 0,
  maxSize: 100,
  namespace: -1,
};
const TURNS = 20;

t.test('what is not read is said again, until rest()', async (t) => {
  let calls = 0;
  let heard: (() => void) | undefined;
  const port = new DatagramPort(OPTIONS, () => {
    calls++;
    heard?.();
  });
  t.teardown(() => port.close());
  const said = () => new Promise<void>((resolve) => (heard = resolve));
  t.ok(port.repeats);
  port.ref(true);
  const from = await client('udp4');
  t.teardown(() => from.close());

  from.send('x', port.address.port, '127.0.0.1');
  await said();
  await said();
  port.rest();
  port.rest();
  const before = calls;
  for (let i = 0; i < TURNS; i++) await turn();
  t.equal(calls, before, 'a loop that is told to rest does not spin');

  port.arm();
  await said();
  t.equal(port.receive(), 1);
  t.equal(String(port.data(0)), 'x');
  const read = calls;
  for (let i = 0; i < TURNS; i++) await turn();
  t.equal(calls, read, 'nothing is there any more');

  from.send('y', port.address.port, '127.0.0.1');
  await said();
  t.equal(port.receive(), 1);
});

t.test('a socket that is closed by what it has called', async (t) => {
  const ports: DatagramPort[] = [];
  let calls = 0;
  const done = new Promise<void>((resolve) => {
    for (let i = 0; i < 3; i++) {
      ports.push(
        new DatagramPort(OPTIONS, () => {
          calls++;
          for (const port of ports.splice(0)) port.close();
          resolve();
        }),
      );
    }
  });
  ports[0]!.ref(true);
  const from = await client('udp4');
  t.teardown(() => from.close());
  for (const { address } of ports) from.send('x', address.port, '127.0.0.1');
  await done;
  for (let i = 0; i < TURNS; i++) await turn();
  t.equal(calls, 1);
});

t.test('a paused socket leaves the event loop alone', async (t) => {
  const { rest } = DatagramPort.prototype;
  t.teardown(() => (DatagramPort.prototype.rest = rest));
  let rested = 0;
  const paused = new Promise<void>((resolve) => {
    DatagramPort.prototype.rest = function () {
      rested++;
      rest.call(this);
      resolve();
    };
  });
  const socket = createDatagramSocket({ address: '127.0.0.1' }).pause();
  t.teardown(() => socket.close());
  const from = await client('udp4');
  t.teardown(() => from.close());
  from.send('x', socket.address().port, '127.0.0.1');
  await paused;
  for (let i = 0; i < TURNS; i++) await turn();
  t.equal(rested, 1);
  const message = nextMessage(socket);
  socket.resume();
  t.equal(String((await message)[0]), 'x');
  from.send('y', socket.address().port, '127.0.0.1');
  t.equal(String((await nextMessage(socket))[0]), 'y');
});
