// A small run of scripts/random.ts: whatever happens, no destination is ever recovered wrongly.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { whyNoNamespace } from './fixtures/netns.ts';
import { unmeasured } from './fixtures/unmeasured.ts';

t.setTimeout(120_000);

const script = fileURLToPath(new URL('../scripts/random.js', import.meta.url));

const reason = whyNoNamespace();
if (reason !== undefined) {
  if (process.env['CI'] === 'true') t.fail(`cannot make a namespace: ${reason}`);
  else t.pass('skipped', { skip: reason });
} else {
  const args = [script, '--connections', '3000', '--datagrams', '1500'];
  const run = spawn(process.execPath, args, { env: unmeasured, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(run, 'exit');
  const [output, errors] = await Promise.all([text(run.stdout), text(run.stderr)]);
  const [status] = (await ended) as [number | null];
  if (status !== 0) t.comment(output);
  t.equal(status, 0, 'every kind was exercised, none was wrong, every `unknown` has a cause');
  t.match(output, /\b1 passed, 0 failed, 0 skipped\n$/);
  t.equal(errors, '');
}
