// The demo's plain TCP client.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';

const script = fileURLToPath(new URL('../../lib/demo/tcp-client.js', import.meta.url));
const client = (port: number) =>
  promisify(execFile)(process.execPath, [script, '127.0.0.1', `${port}`, '0', '100000']);

t.test('the plain TCP client tells what it sent, and what came after its FIN', async (t) => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256');
    socket.on('data', (chunk) => hash.update(chunk));
    socket.on('end', () => socket.end(`${socket.bytesRead} ${hash.digest('hex')}`));
  }).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const { stdout } = await client((server.address() as AddressInfo).port);
  const { sha256, received } = JSON.parse(stdout) as { sha256: string; received: string };
  t.equal(received, `100000 ${sha256}`);
});

t.test('or why it could not', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  await t.rejects(client(port), { code: 1, stderr: `connect ECONNREFUSED 127.0.0.1:${port}\n` });
});
