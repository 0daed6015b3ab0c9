// An intercepted server listens in every way that Node has, and each time knows what it is bound to.
import { spawn } from 'node:child_process';
import cluster from 'node:cluster';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer as createNetServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import {
  createServer,
  type InterceptedSocket,
  type InterceptServer,
  type OriginalDst,
} from '../../lib/index.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import { accepted, client, redirectChain, rules } from '../fixtures/connections.ts';
import { startInherited } from '../fixtures/inherited.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';
import { defaultRoutes, inNamespace, sh } from '../fixtures/netns.ts';
import { type Program, startProgram } from '../fixtures/program.ts';

const DESTINATION = '198.51.100.7';
const CLOSED = fileURLToPath(new URL('../fixtures/programs/closed-listener.js', import.meta.url));
const CLUSTER = fileURLToPath(new URL('../fixtures/programs/cluster-server.js', import.meta.url));

function redirectTo(t: Test, port: number): void {
  rules(t, 'inet', redirectChain(port));
}

/** Redirected and direct connections are told apart. */
async function works(t: Test, server: InterceptServer): Promise<void> {
  if (!server.listening) await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  redirectTo(t, port);
  const redirected = await accepted<InterceptedSocket>(t, server, 80, DESTINATION);
  t.match(redirected.originalDst, { kind: 'redirect', address: DESTINATION, port: 80 });
  const direct = await accepted<InterceptedSocket>(t, server, port, '127.0.0.1');
  t.match(direct.originalDst, { kind: 'direct', address: '127.0.0.1', port });
  const elsewhere = await accepted<InterceptedSocket>(t, server, 80, DESTINATION, { localPort: 20_000 });
  t.match(elsewhere.originalDst, { kind: 'redirect' });
}

/** The same of a program that prints its connections' destinations. */
async function tellsApart(t: Test, program: Program, port: number): Promise<void> {
  redirectTo(t, port);
  client(t, 80, DESTINATION);
  const [, redirected] = await program.printed(/listening\n(.*)\n/);
  t.match(JSON.parse(redirected!), { kind: 'redirect', address: DESTINATION, port: 80 });
  client(t, port, '127.0.0.1');
  const [, direct] = await program.printed(/listening\n.*\n(.*)\n/);
  t.match(JSON.parse(direct!), { kind: 'direct', address: '127.0.0.1', port });
}

function startCluster(t: Test, options: object, expected: RegExp): Promise<Program> {
  return startProgram(t, process.execPath, [CLUSTER, JSON.stringify(options)], expected, unmeasured);
}

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  await t.test('listen(port)', (t) => works(t, createServer().listen(15001)));
  await t.test('listen(port, host)', (t) => works(t, createServer().listen(0, '127.0.0.1')));
  await t.test('listen(port, host name)', async (t) => {
    writeFileSync('/run/hosts', '127.0.0.1 by-name.test\n');
    sh('mount --bind /run/hosts /etc/hosts'); // in this namespace alone
    await works(t, createServer().listen(0, 'by-name.test'));
  });
  await t.test('listen(port, host, backlog, callback)', async (t) => {
    const server = createServer();
    await new Promise<void>((resolve) => void server.listen(0, '0.0.0.0', 5, resolve));
    await works(t, server);
  });
  await t.test('listen({ port, exclusive, backlog })', (t) =>
    works(t, createServer().listen({ port: 0, exclusive: true, backlog: 3 })),
  );
  await t.test('listen({ port, signal })', async (t) => {
    const abort = new AbortController();
    const server = createServer().listen({ port: 0, signal: abort.signal });
    await works(t, server);
    abort.abort();
    t.equal(server.listening, false);
  });
  await t.test('listen({ reusePort })', async (t) => {
    // From Node 23.1 and 22.12; before, the option is not looked at.
    const servers = [createServer(), createServer()];
    const options = { port: 15002, reusePort: true };
    await works(t, servers[0]!.listen(options));
    const outcome = await new Promise<string>((resolve) => {
      servers[1]!.on('error', (error: NodeJS.ErrnoException) => resolve(error.code!));
      servers[1]!.listen(options, () => resolve('listening'));
    });
    if (outcome === 'listening') {
      await works(t, servers[1]!);
    } else {
      t.equal(outcome, 'EADDRINUSE');
    }
  });
  await t.test('listen(path)', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'original-dst-'));
    t.teardown(() => rmSync(directory, { recursive: true }));
    const server = createServer((socket) => socket.end('open')).listen(join(directory, 'socket'));
    await once(server, 'listening');
    const [data] = await once(connect(join(directory, 'socket')), 'data');
    t.equal(String(data), 'open');
    t.match(server.interceptStats, { unknown: 1 });
    server.close();
    await once(server, 'close');
    t.notOk(existsSync(join(directory, 'socket')));
  });

  await t.test('an inherited fd, as systemd passes it', async (t) => {
    const server = await startInherited(t, '0.0.0.0', 15003);
    await tellsApart(t, server, 15003);
  });

  await t.test('an inherited fd that is closed at once', async (t) => {
    const listener = createNetServer().listen(0);
    t.teardown(() => listener.close());
    await once(listener, 'listening');
    const child = spawn(process.execPath, [CLOSED], {
      stdio: ['ignore', 'pipe', 'inherit', socketFd(listener)],
    });
    const exited = once(child, 'exit');
    t.equal(await text(child.stdout!), 'listening\n', 'as without this package');
    t.same(await exited, [0, null]);
  });

  for (const schedulingPolicy of [cluster.SCHED_NONE, cluster.SCHED_RR]) {
    const policy = schedulingPolicy === cluster.SCHED_RR ? 'SCHED_RR' : 'SCHED_NONE';
    await t.test(`node:cluster, ${policy}`, async (t) => {
      const port = 15004 + schedulingPolicy;
      const listen = { port, host: '0.0.0.0' };
      await tellsApart(t, await startCluster(t, { schedulingPolicy, listen }, /listening\n/), port);
    });
  }

  await t.test('node:cluster, transparent', async (t) => {
    const { SCHED_NONE, SCHED_RR } = cluster;
    const run = (schedulingPolicy: number, listen: object, expected: RegExp): Promise<Program> =>
      startCluster(t, { schedulingPolicy, listen, transparent: true }, expected);
    // Round robin: the primary listens and accepts, the worker has no listening socket.
    await run(SCHED_RR, { port: 15010 }, /^ERR_TRANSPARENT_SHARED .*exclusive: true/);
    await run(SCHED_RR, { port: 15011, exclusive: true }, /^listening\n/);
    await run(SCHED_NONE, { port: 15012 }, /^listening\n/);
    t.pass();
  });

  await t.test('worker threads, beside a server in the main thread', async (t) => {
    const server = createServer();
    await works(t, server.listen(0));
    for (let round = 0; round < 2; round++) {
      const worker = new Worker(new URL('../fixtures/programs/worker-server.js', import.meta.url), {
        execArgv: [],
        env: unmeasured,
      });
      const [port] = (await once(worker, 'message')) as [number];
      const message = once(worker, 'message');
      client(t, port, '127.0.0.1');
      const [decided] = (await message) as [OriginalDst];
      t.match(decided, { kind: 'direct', port });
      await worker.terminate();
    }
    const { port } = server.address() as AddressInfo;
    const socket = await accepted<InterceptedSocket>(t, server, port, '127.0.0.1');
    t.match(socket.originalDst, { kind: 'direct', port }, 'the main thread’s addon is still well');
  });

  await t.test('options of connections', async (t) => {
    const server = createServer({
      allowHalfOpen: true,
      pauseOnConnect: true,
      highWaterMark: 1234,
      noDelay: true,
    });
    await works(t, server.listen(0));
    const socket = await accepted<InterceptedSocket>(t, server, 80, DESTINATION);
    t.match(socket.originalDst, { kind: 'redirect' });
    t.equal(socket.allowHalfOpen, true);
    t.equal(socket.readableHighWaterMark, 1234);
    t.equal(socket.isPaused(), true);
  });
});
