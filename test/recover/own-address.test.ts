// This host's addresses as they come and go.
import { once } from 'node:events';
import { createServer } from 'node:net';
import t, { type Test } from 'tap';
import { binding } from '../../lib/binding.ts';
import { Role } from '../../lib/recover/kernel-answer.ts';
import { here } from '../../lib/recover/place.ts';
import { isOwnAddress } from '../../lib/recover/own-address.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import { beliefsExpired } from '../fixtures/connections.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

/** Asks about the address of a listener, which reads it as a connection's local address. */
async function own(t: Test, host: string): Promise<boolean> {
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  t.teardown(() => server.close());
  t.equal(binding().readFacts(socketFd(server)!), 0);
  return isOwnAddress(Role.local, here()) === true;
}

await inNamespace(t, import.meta.url, async () => {
  sh(`
    ip addr add 192.0.2.1/32 dev lo
    ip addr add 2001:db8:1::1/64 dev lo nodad
    ip link add e0 type veth peer name e1
    ip addr add 198.51.100.1/24 dev e0
    ip route add local 198.51.100.2 dev lo
    ip route add local 203.0.113.0/24 dev lo
  `);

  await t.test('addresses of interfaces, up or down', async (t) => {
    for (const address of [
      '127.0.0.1',
      '192.0.2.1',
      '198.51.100.1',
      '::1',
      '2001:db8:1::1',
      '::ffff:192.0.2.1',
    ]) {
      t.ok(await own(t, address), address);
    }
  });

  await t.test('every IPv4 address of a loopback interface’s prefix', async (t) => {
    t.ok(await own(t, '127.1.2.3'));
  });

  await t.test('addresses that are only routed here', async (t) => {
    // One in the prefix of an interface that is no loopback, one in nobody's.
    for (const address of ['198.51.100.2', '203.0.113.9']) {
      t.notOk(await own(t, address), address);
    }
  });

  await t.test('"yes" is believed for a second, "no" is not', async (t) => {
    sh('ip addr add 203.0.113.9/32 dev e0');
    t.ok(await own(t, '203.0.113.9'));
    sh('ip addr del 203.0.113.9/32 dev e0');
    t.ok(await own(t, '203.0.113.9'));
    beliefsExpired();
    t.notOk(await own(t, '203.0.113.9'));
  });

  await t.test('remembers a bounded number of addresses', async (t) => {
    for (let i = 1; i <= 300; i++) {
      if (!(await own(t, `127.0.${i >> 8}.${i & 255 || 1}`))) t.fail(String(i));
    }
    t.ok(await own(t, '127.0.0.1'));
  });
});
