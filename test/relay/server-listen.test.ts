// How createRelayServer's listening socket comes to be, and what it says when it cannot.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import {
  createRelayServer,
  type RelayListenOptions,
  type RelayServer,
  type RelayServerOptions,
} from '../../lib/index.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { echoServer } from '../fixtures/proxies.ts';
import { talk } from '../fixtures/relay-network.ts';
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

/** So many clients, one after the other, whose words come back to them. */
async function served(t: Test, port: number, count: number): Promise<void> {
  const fates = new Set<string>();
  for (let i = 0; i < count; i++) {
    const { data, end } = await talk('127.0.0.1', port, 'words');
    fates.add(`${data} ${end}`);
  }
  t.same([...fates], ['words fin']);
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
      const { port: to } = await echoServer(t, '127.0.0.1');
      const child = spawn(process.execPath, [fileURLToPath(program), String(to)], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      t.teardown(() => child.kill());
      const port = Number(String(((await once(child.stdout, 'data')) as [Buffer])[0]));
      await served(t, port, 40);
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

    t.test('reusePort: worker threads, each with its own socket', async (t) => {
      const { port: to } = await echoServer(t, '127.0.0.1');
      const program = new URL('../fixtures/programs/relay-thread.js', import.meta.url);
      const start = async (listen: RelayListenOptions): Promise<[Worker, unknown]> => {
        const worker = new Worker(program, { workerData: { to, listen } });
        t.teardown(() => worker.terminate());
        return [worker, await answer(worker)];
      };
      const answer = async (worker: Worker): Promise<unknown> =>
        ((await once(worker, 'message')) as [unknown])[0];
      const ask = async (worker: Worker, question: 'count' | 'close'): Promise<unknown> => {
        const answered = answer(worker);
        worker.postMessage(question);
        return answered;
      };
      const [one, port] = (await start({ reusePort: true })) as [Worker, number];
      const [two] = await start({ port, reusePort: true });
      const [, refused] = await start({ port });
      t.match(refused, /EADDRINUSE.*reusePort: true.* in both/);
      await served(t, port, 40);
      const counts = [await ask(one, 'count'), await ask(two, 'count')] as [number, number];
      t.equal(counts[0] + counts[1], 40);
      for (const count of counts) t.ok(count > 0, 'the kernel spreads them');
      t.equal(await ask(one, 'close'), 'closed');
      // What had begun at the one that is gone came to its end there; the rest is the other's.
      await served(t, port, 10);
      t.equal(await ask(two, 'count'), counts[1] + 10);
      t.equal(await ask(two, 'close'), 'closed');
    });

    rerunUnprivileged(t, import.meta.url);
  });
}
