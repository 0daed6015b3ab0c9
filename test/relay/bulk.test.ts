// Many bytes both ways at once, checksummed, and ends that are killed. ORIGINAL_DST_BULK_MIB says how many MiB go in
// each direction: 256, or 1024 with `npm run test:relay-bulk`.
import { fork } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { relay, type RelayOutcome } from '../../lib/index.ts';
import { closed, connections, readAll, world } from '../fixtures/relay-world.ts';

const MIB = 1024 * 1024;
const total = Number(process.env['ORIGINAL_DST_BULK_MIB'] ?? 256);
const CHATTERBOX = fileURLToPath(new URL('../fixtures/programs/chatterbox.js', import.meta.url));

/** Sends `total` MiB that never repeat in the same place, then FIN; returns their checksum. */
async function send(socket: Socket): Promise<string> {
  const hash = createHash('sha1');
  const block = randomBytes(MIB + 97);
  async function* blocks(): AsyncGenerator<Buffer> {
    for (let i = 0; i < total; i++) {
      const chunk = Buffer.from(block.subarray(i % 97, (i % 97) + MIB));
      chunk.writeUInt32BE(i);
      hash.update(chunk);
      yield chunk;
    }
  }
  await pipeline(Readable.from(blocks()), socket);
  return hash.digest('hex');
}

async function receive(socket: Socket): Promise<{ checksum: string; length: number }> {
  const hash = createHash('sha1');
  let length = 0;
  socket.on('data', (chunk: Buffer) => {
    hash.update(chunk);
    length += chunk.length;
  });
  await once(socket, 'end');
  return { checksum: hash.digest('hex'), length };
}

t.test(`${total} MiB in each direction at once`, async (t) => {
  const { left, client, upstream, right } = await world(t);
  const joined = relay(client, upstream);
  const over = once(joined, 'close');
  const [atRight, atLeft, fromLeft, fromRight] = await Promise.all([
    receive(right),
    receive(left),
    send(left),
    send(right),
  ]);
  t.same(atRight, { checksum: fromLeft, length: total * MIB });
  t.same(atLeft, { checksum: fromRight, length: total * MIB });
  t.same(await over, [{ reason: 'end' }]);
  t.equal(joined.bytesToUpstream, total * MIB);
  t.equal(joined.bytesToClient, total * MIB);
});

t.test('an end that is killed while bytes move', async (t) => {
  const make = await connections(t);
  const bystander = await world(t, make);
  const other = relay(bystander.client, bystander.upstream);
  for (const side of ['client', 'upstream'] as const) {
    const server = createServer({ allowHalfOpen: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => server.close());
    const child = fork(CHATTERBOX, [String((server.address() as AddressInfo).port)]);
    const [killed] = (await once(server, 'connection')) as [Socket];
    const { dialled, accepted } = await make();
    const joined = side === 'client' ? relay(killed, dialled) : relay(dialled, killed);
    const over = once(joined, 'close') as Promise<[RelayOutcome]>;
    accepted.pipe(accepted);
    while (joined.bytesToUpstream < 8 * MIB || joined.bytesToClient < 8 * MIB) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    const gone = closed(accepted);
    child.kill('SIGKILL');
    const [outcome] = await over;
    // Whether the kernel says FIN or RST for the dead depends on what it had not read.
    t.match(outcome.reason, /^(reset|end)$/);
    if (outcome.reason === 'reset') t.equal(outcome.side, side);
    await gone;
  }
  bystander.left.end('unharmed');
  t.equal(String((await readAll(bystander.right)).data), 'unharmed');
  other.destroy();
});
