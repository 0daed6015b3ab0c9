// The sidecar's demo, as a whole.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { bareEnvironment } from '../fixtures/bare-environment.ts';
import { whyNoNamespace } from '../fixtures/netns.ts';

// Several users are needed, so this one cannot run in a namespace that anybody may make.
const reason = whyNoNamespace({ root: true });

t.test('both modes behind the mesh’s rules', { skip: reason !== undefined && reason }, async (t) => {
  const demo = fileURLToPath(new URL('../../examples/sidecar/demo.js', import.meta.url));
  const child = spawn('env', [...bareEnvironment, process.execPath, demo], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const printed = await text(child.stdout);
  t.same(await exited, [0, null], 'exit status');
  t.match(printed, /\nREDIRECT: [^]*\nTPROXY: [^]*\nall as it should be\n$/);
  t.equal(printed.match(/^ {2}ok {3}/gm)?.length, 22, 'nine connections, statistics and the drain, twice');
  t.notMatch(printed, 'FAIL');
  for (const shown of [
    'far end  10.244.1.2 8080 saw 127.0.0.6',
    'far end  fd00:244:1::2 8080 saw ::6',
    'far end  10.244.1.2 8080 saw 10.244.1.1',
    '"destination":"[2001:db8:51::10]:80","kind":"redirect"',
    '"destination":"10.244.1.2:8080","kind":"tproxy"',
  ]) {
    t.match(printed, shown, shown);
  }
});
