// createDatagramSocket() where the event loop is not Node's: a thread waits, and says only once what can be read.
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { createDatagramSocket } from '../../lib/index.ts';
import { pretendBun } from '../fixtures/foreign-runtime.ts';
import { client, nextMessage } from '../fixtures/udp.ts';

// Before the first socket of this thread, which decides for all.
pretendBun();

/** More than are read in one turn. */
const COUNT = 200;

for (const referenced of [true, false]) {
  t.test(`a queue that one turn does not empty, ${referenced ? 'ref' : 'unref'}`, async (t) => {
    const socket = createDatagramSocket({ address: '127.0.0.1', receiveBufferSize: 1 << 20 });
    t.teardown(() => socket.close());
    const from = await client('udp4');
    t.teardown(() => from.close());
    socket.pause();
    let sent = 0;
    await new Promise<void>((resolve) => {
      for (let i = 0; i < COUNT; i++)
        from.send(String(i), socket.address().port, '127.0.0.1', () => ++sent === COUNT && resolve());
    });
    let received = 0;
    const all = new Promise<void>((resolve) => {
      socket.on('message', () => ++received === COUNT && resolve());
    });
    for (let i = 0; i < 3; i++) await turn();
    t.equal(received, 0, 'paused');
    if (!referenced) socket.unref();
    socket.resume();
    await all;
    from.send('one more', socket.address().port, '127.0.0.1');
    t.equal(String((await nextMessage(socket))[0]), 'one more');
    const closed = once(socket, 'close');
    socket.close();
    await closed;
  });
}
