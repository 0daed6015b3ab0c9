// Conntrack at work or not.
import { once } from 'node:events';
import t from 'tap';
import { createServer, type InterceptedSocket } from '../../lib/index.ts';
import { here } from '../../lib/recover/place.ts';
import { conntrackActive, conntrackPresent } from '../../lib/recover/tracking.ts';
import {
  accepted,
  beliefsExpired,
  dialled,
  flushConntrack,
  listening,
  redirectChain,
  rules,
  TRACKING,
  ZONED,
} from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace, nft, sh } from '../fixtures/netns.ts';

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  await t.test('active with the first rule that needs it', async (t) => {
    t.equal(conntrackActive(4, here()), false);
    t.equal(conntrackActive(6, here()), false);
    nft(`table inet tracking {${TRACKING}\n}`);
    t.equal(conntrackActive(4, here()), true, '"no" is not believed');
    t.equal(conntrackActive(6, here()), true);
    nft('delete table inet tracking');
    t.equal(conntrackActive(4, here()), true, '"yes" is, for a minute');
    beliefsExpired();
    flushConntrack();
    t.equal(conntrackActive(4, here()), false);
  });

  await t.test(
    'a connection that was redirected and forgotten since "no" was found out is not direct',
    async (t) => {
      const server = createServer();
      const port = await listening(t, server);
      const plain = await accepted<InterceptedSocket>(t, server, port, '127.0.0.1');
      t.match(plain.originalDst, { kind: 'direct' });
      rules(t, 'inet', redirectChain(port));
      const connection = once(server, 'connection');
      await dialled(t, 80, '198.51.100.7');
      flushConntrack();
      const [socket] = (await connection) as [InterceptedSocket];
      t.teardown(() => socket.destroy());
      t.match(socket.originalDst, { kind: 'unknown', cause: { code: 'ENOENT' } });
    },
  );

  await t.test('a connection whose rules and entry went while it waited is not direct', async (t) => {
    beliefsExpired();
    const server = createServer();
    const port = await listening(t, server);
    const capture = (): void => nft(`table inet passing {${redirectChain(port)}\n}`);
    capture();
    const earlier = await accepted<InterceptedSocket>(t, server, 80, '198.51.100.7');
    t.match(earlier.originalDst, { kind: 'redirect', address: '198.51.100.7' });
    const connection = once(server, 'connection');
    // In one turn of the event loop, which is what the server waits for.
    sh('bash -c "exec 3<>/dev/tcp/198.51.100.8/80"');
    nft('delete table inet passing');
    flushConntrack();
    const [socket] = (await connection) as [InterceptedSocket];
    socket.destroy();
    t.match(socket.originalDst, { kind: 'unknown', cause: { code: 'ENOENT' } });
    beliefsExpired();
    const plain = await accepted<InterceptedSocket>(t, server, port, '127.0.0.1');
    t.match(plain.originalDst, { kind: 'direct' }, 'a minute later');
  });

  await t.test('active for one family', async (t) => {
    beliefsExpired();
    rules(t, 'ip6', TRACKING);
    flushConntrack();
    t.equal(conntrackActive(4, here()), false);
    t.equal(conntrackActive(6, here()), true);
  });

  await t.test('active in a zone that SO_ORIGINAL_DST does not look into', async (t) => {
    beliefsExpired();
    rules(t, 'inet', TRACKING + ZONED);
    flushConntrack();
    t.equal(conntrackActive(4, here()), true);
  });

  await t.test('a probe that is thrown away on its way tells nothing', async (t) => {
    beliefsExpired();
    rules(
      t,
      'inet',
      `chain output {
        type filter hook output priority 0
        meta l4proto { tcp, udp } drop
      }`,
    );
    t.equal(conntrackActive(4, here()), undefined, 'on its way out');
  });

  await t.test('a probe that loopback does not let through tells nothing', async (t) => {
    beliefsExpired();
    rules(
      t,
      'inet',
      `chain output {
        type filter hook output priority 0
        meta l4proto udp drop
      }
      chain input {
        type filter hook input priority 0
        tcp flags syn drop
      }`,
    );
    t.equal(conntrackActive(4, here()), undefined, 'no answer');
    sh('ip link set lo down');
    t.equal(conntrackActive(4, here()), undefined, 'unreachable');
    t.equal(conntrackActive(6, here()), undefined);
    sh('ip link set lo up');
  });

  await t.test('present', async (t) => {
    sh('cat /proc/sys/net/netfilter/nf_conntrack_max');
    t.equal(conntrackPresent(), true);
    sh('mount -t tmpfs tmpfs /proc/sys/net');
    t.equal(conntrackPresent(), false);
    t.equal(conntrackActive(4, here()), false, 'and without its files the longer way still tells');
    sh('umount /proc/sys/net');
  });
});
