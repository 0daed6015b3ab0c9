// Runs itself again with few descriptors, and there uses them up.
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { relay } from '../../lib/index.ts';
import { connections, readAll, world } from '../fixtures/relay-world.ts';

const INSIDE = 'ORIGINAL_DST_FEW_DESCRIPTORS';

/** Opens files until there are no more descriptors, less `left`. Returns what closes them. */
function exhaust(left: number): () => void {
  const files: number[] = [];
  try {
    for (;;) files.push(openSync('/dev/null', 'r'));
  } catch {
    for (let i = 0; i < left; i++) closeSync(files.pop()!);
  }
  return () => files.forEach((fd) => closeSync(fd));
}

if (process.env[INSIDE] === '1') {
  const make = await connections(t);
  // The thread itself needs two.
  const first = await world(t, make);
  relay(first.client, first.upstream).destroy();

  t.test('none for the relay: a clear outcome, and both ends learn', async (t) => {
    const { left, client, upstream, right } = await world(t, make);
    const seen = [readAll(left), readAll(right)];
    const release = exhaust(0);
    const joined = relay(client, upstream);
    release();
    t.match(await once(joined, 'close'), [{ reason: 'error', error: { code: 'EMFILE', syscall: 'relay' } }]);
    for (const end of await Promise.all(seen)) t.equal(end.end, 'ECONNRESET');
  });

  t.test('none for the relay, and streams allowed: nothing is lost', async (t) => {
    const { left, client, upstream, right } = await world(t, make);
    left.write('ahead ');
    right.write('greeting ');
    await Promise.all([once(client, 'readable'), once(upstream, 'readable')]);
    const release = exhaust(0);
    const joined = relay(client, upstream, { engine: 'any' });
    release();
    left.end('and after');
    right.end('and goodbye');
    t.equal(String((await readAll(right)).data), 'ahead and after');
    t.equal(String((await readAll(left)).data), 'greeting and goodbye');
    t.same(joined.outcome ?? (await once(joined, 'close'))[0], { reason: 'end' });

    const silent = await world(t, make);
    const again = exhaust(0);
    const other = relay(silent.client, silent.upstream, { engine: 'any' });
    again();
    other.destroy();
    t.same(other.outcome, { reason: 'aborted' });
  });

  t.test('enough for the relay, none for a pipe: the bytes are copied', async (t) => {
    const { left, client, upstream, right } = await world(t, make);
    const release = exhaust(2);
    const joined = relay(client, upstream);
    left.end(Buffer.alloc(8 * 1024 * 1024, 'c'));
    right.end();
    left.resume();
    t.ok((await readAll(right)).data.equals(Buffer.alloc(8 * 1024 * 1024, 'c')));
    t.same(joined.outcome ?? (await once(joined, 'close'))[0], { reason: 'end' });
    release();
  });
} else {
  const self = [process.execPath, ...process.execArgv, fileURLToPath(import.meta.url)];
  await t.spawn('sh', ['-c', 'ulimit -n 64 && exec "$@"', 'sh', ...self], {
    env: { ...process.env, [INSIDE]: '1' },
  });
}
