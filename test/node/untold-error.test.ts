// The error of a connection that Node calls ended.
import { once } from 'node:events';
import { Socket } from 'node:net';
import t from 'tap';
import { untoldError } from '../../lib/node/untold-error.ts';
import { connections } from '../fixtures/relay-world.ts';
import { mockImport } from '../fixtures/mock.ts';

t.test('FIN, and RST right behind bytes', async (t) => {
  const make = await connections(t);
  const whole = await make();
  whole.dialled.end('whole');
  await once(whole.accepted.resume(), 'end');
  t.equal(untoldError(whole.accepted), undefined);

  const cut = await make();
  const told: unknown[] = [];
  cut.accepted.on('error', (error: NodeJS.ErrnoException) => told.push(error.code));
  cut.accepted.once('end', () => {
    const error = untoldError(cut.accepted);
    told.push(error?.code, error?.syscall);
    t.equal(untoldError(cut.accepted), undefined, 'once');
  });
  cut.dialled.write('cut');
  cut.dialled.resetAndDestroy();
  await new Promise<void>((resolve) => {
    cut.accepted.once('end', () => resolve()).once('close', () => resolve());
    cut.accepted.resume();
  });
  t.equal(told[0], 'ECONNRESET', 'by Node or by us');
});

t.test('nobody can say', async (t) => {
  t.equal(untoldError(new Socket()), undefined, 'no descriptor');
  const binding = (): never => {
    throw new Error('no binary');
  };
  const url = new URL('../../lib/node/untold-error.js', import.meta.url).href;
  const mocks = { [new URL('../../lib/binding.js', import.meta.url).href]: { binding } };
  const { untoldError: withoutBinary } = await mockImport<{ untoldError: typeof untoldError }>(url, mocks);
  const make = await connections(t);
  const { accepted } = await make();
  t.equal(withoutBinary(accepted), undefined);
});
