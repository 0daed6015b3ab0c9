// What the kernel says of plain connections, address by address.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { constants, endianness } from 'node:os';
import t from 'tap';
import { binding } from '../../lib/binding.ts';
import {
  endpointAt,
  familyAt,
  originalStatus,
  peerStatus,
  portAt,
  sameEndpoint,
  Role,
} from '../../lib/recover/kernel-answer.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import { inNamespace } from '../fixtures/netns.ts';

// In a namespace of its own, so that the machine's rules have no say.
await inNamespace(t, import.meta.url, async () => {
  for (const [listen, dial, family] of [
    ['127.0.0.1', '127.0.0.1', 'IPv4'],
    ['::', '127.0.0.9', 'IPv4'],
    ['::1', '::1', 'IPv6'],
  ] as const) {
    await t.test(`${dial} to a listener on ${listen}`, async (t) => {
      const server = createServer().listen(0, listen);
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      const connection = once(server, 'connection');
      const client = connect({ port, host: dial });
      const [socket] = (await connection) as [Socket];
      t.teardown(() => {
        client.destroy();
        socket.destroy();
        server.close();
      });

      t.equal(binding().readFacts(socketFd(socket)!), 0);
      t.equal(originalStatus(), -constants.errno.ENOENT);
      t.equal(peerStatus(), 0);
      t.same(endpointAt(Role.local), { address: dial, port, family });
      t.same(endpointAt(Role.local), { address: dial, port, family }, 'the same once more');
      t.same(endpointAt(Role.peer), {
        address: (client.address() as AddressInfo).address,
        port: (client.address() as AddressInfo).port,
        family,
      });
      t.equal(familyAt(Role.local), family === 'IPv4' ? 4 : 6);
      t.equal(portAt(Role.peer), client.localPort);
      t.ok(sameEndpoint(Role.local, Role.local));
      t.notOk(sameEndpoint(Role.local, Role.peer), 'the ports differ');
      t.notOk(sameEndpoint(Role.local, Role.original), 'no answer is no address');
      const kept = endpointAt(Role.local);
      binding().readFacts(-1);
      t.same(kept, { address: dial, port, family }, 'a copy, not a view');
    });
  }

  await t.test('two addresses differ in any of their bytes, not in their interface', async (t) => {
    const bytes = new Uint8Array(binding().kernelAnswer);
    const [size, head] = [24, 8];
    for (let at = 0; at < size; at++) {
      bytes.fill(0);
      t.ok(sameEndpoint(Role.original, Role.peer));
      bytes[Role.peer * size + at] = 1;
      const scope = at >= 4 && at < head;
      t.equal(sameEndpoint(Role.original, Role.peer), scope, `byte ${at}`);
    }
  });

  await t.test('the text is that of the address, whatever was asked for before', async (t) => {
    const { kernelAnswer, addressText } = binding();
    const memory = new DataView(kernelAnswer, Role.scratch * 24, 24);
    const wrong: string[] = [];
    // More than are remembered, each beside those that differ from it in one word or in the family alone.
    for (let turn = 0; turn < 3; turn++) {
      for (let high = 0; high < 400; high++) {
        for (const family of [4, 6]) {
          for (const low of family === 6 ? [0, 1] : [0]) {
            memory.setUint16(0, family, endianness() === 'LE');
            memory.setUint32(8, high * 0x01000193);
            memory.setUint32(16, low);
            memory.setUint32(20, low);
            const { address } = endpointAt(Role.scratch);
            if (address !== addressText(Role.scratch)) wrong.push(address);
          }
        }
      }
    }
    t.same(wrong, []);
  });
});
