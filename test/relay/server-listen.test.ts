// How createRelayServer's listening socket comes to be, and what it says when it cannot.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createRelayServer, type RelayServer, type RelayServerOptions } from '../../lib/index.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { closed } from '../fixtures/relay-world.ts';
import { rerunUnprivileged, unprivileged } from '../fixtures/unprivileged.ts';

function server(options: Partial<RelayServerOptions> = {}): RelayServer {
  return createRelayServer({ decide: () => 'reset', ...options });
}

/** What a listen() that fails says. */
async function failure(listen: RelayServer): Promise<unknown> {
  const [error] = (await once(listen, 'error').catch((reason: unknown) => [reason])) as [unknown];
  return error;
}

async function close(listening: RelayServer): Promise<void> {
  listening.close();
  await once(listening, 'close');
}

if (unprivileged) {
  t.test('transparent needs a right, and says which', async (t) => {
    const before = openSockets();
    t.match(await failure(server({ transparent: true }).listen()), {
      code: 'EPERM',
      syscall: 'setsockopt',
      message: /IP_TRANSPARENT EPERM/,
      hint: /CAP_NET_ADMIN.*setpriv/,
    });
    t.same(await socketsLeft(before), []);
  });
} else {
  await inNamespace(t, import.meta.url, async () => {
    t.test('where it listens', async (t) => {
      for (const [host, bound, family, reached] of [
        [undefined, '::', 'IPv6', ['127.0.0.1', '::1']],
        ['::', '::', 'IPv6', ['127.0.0.1', '::1']],
        ['127.0.0.1', '127.0.0.1', 'IPv4', ['127.0.0.1']],
        ['::1', '::1', 'IPv6', ['::1']],
      ] as const) {
        const listening = server().listen(0, host);
        t.match(listening.address(), { address: bound, family }, 'at once, as a net.Server');
        await once(listening, 'listening');
        const { port } = listening.address()!;
        t.ok(port > 0);
        for (const address of reached) {
          const socket = connect(port, address);
          socket.on('error', () => {});
          await closed(socket);
        }
        t.equal(listening.stats.accepted, reached.length);
        await close(listening);
        t.equal(listening.address(), null);
      }
    });

    t.test('where it cannot', async (t) => {
      const before = openSockets();
      const taken = createServer().listen(15001);
      await once(taken, 'listening');
      t.match(await failure(server().listen(15001)), {
        code: 'EADDRINUSE',
        errno: -98,
        syscall: 'listen',
        address: '::',
        port: 15001,
      });
      taken.close();
      await once(taken, 'close');
      t.match(await failure(server().listen(15001, '192.0.2.77')), {
        code: 'EADDRNOTAVAIL',
        syscall: 'listen',
        address: '192.0.2.77',
        port: 15001,
      });
      t.throws(() => server().listen(0, 'localhost'), { code: 'ERR_INVALID_ARG_TYPE', message: /"host"/ });
      const again = server().listen();
      t.throws(() => again.listen(), { code: 'ERR_SERVER_ALREADY_LISTEN' });
      await close(again);
      t.same(await socketsLeft(before), []);
    });

    t.test('transparent: an address that is not this host’s', async (t) => {
      const listening = server({ transparent: true }).listen(0, '192.0.2.77');
      await once(listening, 'listening');
      t.match(listening.address(), { address: '192.0.2.77', family: 'IPv4' });
      await close(listening);
    });

    t.test('reusePort: workers of a cluster, each with its own socket', async (t) => {
      const program = new URL('../fixtures/programs/relay-workers.js', import.meta.url);
      const child = spawn(process.execPath, [fileURLToPath(program)], { stdio: ['pipe', 'pipe', 'inherit'] });
      t.teardown(() => child.kill());
      const port = Number(String(((await once(child.stdout, 'data')) as [Buffer])[0]));
      for (let i = 0; i < 40; i++) await closed(connect(port, '127.0.0.1').on('error', () => {}));
      child.stdin.end();
      const { counts, refused } = JSON.parse(String(((await once(child.stdout, 'data')) as [Buffer])[0])) as {
        counts: [number, number];
        refused: string;
      };
      t.equal(counts[0] + counts[1], 40);
      for (const count of counts) t.ok(count > 0, 'the kernel spreads them');
      t.match(refused, /EADDRINUSE.*in every worker/);
      t.throws(() => server().listen({ reusePort: 1 as never }), { code: 'ERR_INVALID_ARG_TYPE' });
    });

    rerunUnprivileged(t, import.meta.url);
  });
}
