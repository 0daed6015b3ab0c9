// relay() to a destination: the addon dials, and no socket object is made for it.
import { once } from 'node:events';
import { type AddressInfo, BlockList } from 'node:net';
import t from 'tap';
import { createServer, Namespace, relay } from '../../lib/index.ts';
import { dialNetwork, leakFree, seenBy, SILENT, whoami } from '../fixtures/dialling.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { connections, deadPort, far, outcome, readAll, resetEitherEnd } from '../fixtures/relay-world.ts';

await inNamespace(t, import.meta.url, async () => {
  dialNetwork();

  for (const engine of ['native', 'pipe', 'any'] as const) {
    t.test(`moved by ${engine}`, async (t) => {
      const make = await connections(t);

      t.test('what was read goes first; FIN both ways, one after the other', async (t) => {
        const { to, next } = await far(t);
        const { dialled: left, accepted: client } = await make();
        left.write('one ');
        const [chunk] = (await once(client, 'data')) as [Buffer];
        client.pause();
        left.write('two ');
        await once(client, 'readable');
        client.unshift(chunk);
        client.write('welcome ');
        const atRight = next();
        const joined = relay(client, to, { engine });
        const right = await atRight;
        const said = readAll(right);
        left.end('three');
        t.same(await said, { data: Buffer.from('one two three'), end: 'fin' });
        t.equal(joined.outcome, undefined, 'half-open is open');
        const answer = readAll(left);
        right.end('four');
        t.same(await answer, { data: Buffer.from('welcome four'), end: 'fin' });
        t.same(await outcome(joined), { reason: 'end' });
        t.equal(joined.bytesToUpstream, 13);
        t.equal(joined.bytesToClient, 4);
        t.equal(joined.destroy(), joined, 'nothing left to destroy');
        t.ok(client.destroyed);
      });

      t.test('IPv6, and a server that speaks first and ends first', async (t) => {
        const { to, next } = await far(t, '::1');
        const { dialled: left, accepted: client } = await make();
        const atRight = next();
        const joined = relay(client, to, { engine });
        const right = await atRight;
        const heard = readAll(left);
        right.end('220 ready');
        t.same(await heard, { data: Buffer.from('220 ready'), end: 'fin' });
        const said = readAll(right);
        left.end('QUIT');
        t.same(await said, { data: Buffer.from('QUIT'), end: 'fin' });
        t.same(await outcome(joined), { reason: 'end' });
      });

      t.test('much, both ways at once', async (t) => {
        const { port } = await whoami(t, '127.0.0.1');
        const { dialled: left, accepted: client } = await make();
        const joined = relay(client, { address: '127.0.0.1', port }, { engine });
        const large = Buffer.alloc(3 * 1024 * 1024, 'relay');
        left.end(large);
        const { data, end } = await readAll(left);
        t.equal(end, 'fin');
        t.ok(data.subarray(data.indexOf('\n') + 1).equals(large));
        t.same(await outcome(joined), { reason: 'end' });
        t.equal(joined.bytesToUpstream, large.length);
      });

      t.test('RST becomes RST, from either side', async (t) => {
        const { to, next } = await far(t);
        await resetEitherEnd(t, async () => {
          const { dialled: left, accepted: client } = await make();
          const atRight = next();
          const joined = relay(client, to, { engine });
          return { left, right: await atRight, joined };
        });
      });

      t.test('dials that fail', async (t) => {
        const { to } = await far(t);
        const port = await deadPort();
        const cases = [
          [{ address: '127.0.0.1', port }, {}, { code: 'ECONNREFUSED', syscall: 'connect' }],
          [{ address: '0.0.0.0', port }, {}, { code: 'ECONNREFUSED', address: '127.0.0.1', port }],
          [
            { address: '203.0.113.1', port: 9 },
            {},
            { code: 'EHOSTUNREACH', address: '203.0.113.1', port: 9 },
          ],
          [SILENT, {}, { code: 'ETIMEDOUT', syscall: 'connect', ...SILENT }],
          [
            to,
            { source: { address: '192.0.2.9' } },
            { code: 'EADDRNOTAVAIL', syscall: 'bind', address: '192.0.2.9' },
          ],
          [to, { interface: 'none0' }, { code: 'ENODEV', syscall: 'setsockopt' }],
        ] as const;
        for (const [destination, dial, error] of cases) {
          await leakFree(t, async () => {
            const { dialled: left, accepted: client } = await make();
            const heard = readAll(left);
            // Elsewhere a busy machine must not be taken for a silent one.
            const limit = destination === SILENT ? { connectTimeout: 100 } : {};
            const joined = relay(client, destination, { engine, dial, ...limit });
            const how = await outcome(joined);
            t.match(how, { reason: 'error', side: 'upstream', error }, error.code);
            if (how.reason === 'error') t.ok((how.error as NodeJS.ErrnoException).errno! < 0);
            t.equal((await heard).end, 'ECONNRESET');
            t.equal(joined.bytesToUpstream + joined.bytesToClient, 0);
          });
        }
      });

      t.test('options of the dial', async (t) => {
        const { port } = await whoami(t, '127.0.0.1');
        const to = { address: '::ffff:127.0.0.1', port };
        const taken = await whoami(t, '127.0.0.6');
        for (const [dial, address] of [
          [{ source: { address: '::ffff:127.0.0.6' }, mark: 7, interface: 'lo' }, '127.0.0.6'],
          [{ source: { address: '127.0.0.6', port: taken.port }, portFallback: true }, '127.0.0.6'],
          [{ source: { address: '198.51.100.9' }, transparent: true, freebind: true }, '198.51.100.9'],
        ] as const) {
          const { dialled: left, accepted: client } = await make();
          const joined = relay(client, to, { engine, dial });
          t.equal((await seenBy(left)).address, address);
          left.end();
          t.same(await outcome(joined), { reason: 'end' });
        }
        const pod = await Namespace.create();
        const inside = createServer((socket) => socket.end('inside'));
        inside.listen({ namespace: pod, host: '127.0.0.1', port: 0 });
        await once(inside, 'listening');
        t.teardown(() => {
          inside.close();
          pod.close();
        });
        const { dialled: outside, accepted } = await make();
        const there = { address: '127.0.0.1', port: (inside.address() as AddressInfo).port };
        relay(accepted, there, { engine, dial: { namespace: pod } });
        outside.end();
        t.equal(String((await readAll(outside)).data), 'inside');

        const deny = new BlockList();
        deny.addAddress('127.0.0.1');
        const { dialled: left, accepted: client } = await make();
        const heard = readAll(left);
        const joined = relay(client, to, { engine, dial: { egress: { deny } } });
        t.match(await outcome(joined), { side: 'upstream', error: { code: 'ERR_EGRESS_DENIED' } });
        t.equal((await heard).end, 'ECONNRESET');
      });
    });
  }
});
