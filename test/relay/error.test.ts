// Errors that are no resets.
import { once } from 'node:events';
import t from 'tap';
import { relay } from '../../lib/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { readAll, world } from '../fixtures/relay-world.ts';

await inNamespace(t, import.meta.url, async () => {
  t.test('an error that is no reset: the connection is destroyed by the administrator', async (t) => {
    for (const side of ['client', 'upstream'] as const) {
      const { left, client, upstream, right } = await world(t);
      const { localPort, remotePort } = side === 'client' ? client : upstream;
      const joined = relay(client, upstream);
      left.write('x');
      await once(right, 'data');
      const closed = once(joined, 'close');
      const witness = readAll(side === 'client' ? right : left);
      // sock_diag(7), SOCK_DESTROY: the kernel ends the connection with ECONNABORTED.
      sh(`ss -K src 127.0.0.1:${localPort} dst 127.0.0.1:${remotePort}`);
      t.match(await closed, [{ reason: 'error', side, error: { code: 'ECONNABORTED', syscall: 'relay' } }]);
      t.equal((await witness).end, 'ECONNRESET');
    }
  });
});
