// Clients that say nothing: what they cost while they are waited for, and that others are served meanwhile.
// ORIGINAL_DST_SILENT=10000 for more of them than the suite has time for.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import { createRelayServer } from '../../lib/index.ts';
import { until } from '../fixtures/relay-network.ts';
import { readAll } from '../fixtures/relay-world.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';

const COUNT = Number(process.env['ORIGINAL_DST_SILENT'] ?? 500);
/** Of the process; what V8 and malloc take in larger pieces is in it, and more to be seen the fewer there are. */
const MOST_BYTES_EACH = 1024;
const NOISE_BYTES = 16 * 2 ** 20;

const CLIENTS = `const [port, count] = process.argv.slice(1).map(Number);
let open = 0;
for (let i = 0; i < count; i++) {
  require('net').connect(port, '127.0.0.1', () => ++open === count && console.log('open'));
}`;

t.test(`${COUNT} silent clients`, async (t) => {
  const server = createRelayServer({ inspect: { timeout: 600_000 }, decide: () => 'reset' }).listen(
    0,
    '127.0.0.1',
  );
  await once(server, 'listening');
  const { port } = server.address()!;
  const before = process.memoryUsage.rss();
  const clients = spawn(process.execPath, ['-e', CLIENTS, String(port), String(COUNT)], {
    env: unmeasured,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(clients.stdout, 'data');
  await until(() => server.stats.inspecting === COUNT);
  t.match(server.stats, { inspecting: COUNT, undecided: 0 });
  const grown = process.memoryUsage.rss() - before;
  t.comment(`${Math.round(grown / COUNT)} bytes each`);
  t.ok(grown < NOISE_BYTES + COUNT * MOST_BYTES_EACH, `${grown} bytes`);
  const other = connect(port, '127.0.0.1').on('error', () => {});
  other.write('GET / HTTP/1.1\r\nHost: a.example\r\n\r\n');
  t.equal((await readAll(other)).end, 'ECONNRESET', 'another is decided about');
  clients.kill();
  await until(() => server.stats.inspecting === 0);
  t.equal(server.stats.inspecting, 0);
  server.destroy();
  await once(server, 'close');
});
