// IP_TRANSPARENT on listeners, with and without the right.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createNetServer, type ListenOptions } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createServer, getTransparent, intercept } from '../../lib/index.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import { listening } from '../fixtures/connections.ts';
import { tcpListenerFd } from '../fixtures/descriptors.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { rerunUnprivileged, unprivileged } from '../fixtures/unprivileged.ts';

async function withRights(): Promise<void> {
  await t.test('between bind(2) and listen(2), whichever way it listens', async (t) => {
    const program = fileURLToPath(new URL('../fixtures/programs/transparent-listener.js', import.meta.url));
    const { status, stderr } = spawnSync(
      'strace',
      ['-f', '-qq', '-e', 'trace=setsockopt,listen', process.execPath, program],
      { encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe', await tcpListenerFd(t)] },
    );
    t.equal(status, 0, stderr);
    const calls = [...stderr.matchAll(/(?:IPV6_TRANSPARENT|IP_TRANSPARENT|listen\().*= (.*)/g)].map(
      ([call]) =>
        call
          .replace(/^listen.*, (\d+)\).*/, 'listen $1')
          .replace(/_TRANSPARENT, \[1\].*= 0$/, ' transparent'),
    );
    t.same(calls, [
      'IPV6 transparent',
      'listen 511',
      'IP transparent',
      'listen 511',
      calls[4], // localhost is one or the other
      'listen 511',
      'IPV6 transparent',
      'listen 7',
      'IP transparent',
      'listen 511',
    ]);
    t.match(calls[4], /^IP(V6)? transparent$/);
  });

  await t.test('a server that listens already', async (t) => {
    const server = createNetServer();
    await listening(t, server);
    t.equal(getTransparent(socketFd(server)!), false);
    intercept(server, { transparent: true });
    t.equal(getTransparent(socketFd(server)!), true);
  });

  await t.test('a server that listens again', async (t) => {
    const server = intercept(createHttpServer(), { transparent: true });
    for (let i = 0; i < 3; i++) {
      server.listen(0);
      await once(server, 'listening');
      t.equal(getTransparent(socketFd(server)!), true);
      server.close();
      await once(server, 'close');
    }
  });

  await t.test('a handle without a socket, as a cluster’s worker has', async (t) => {
    const server = createNetServer();
    (server as unknown as { _handle: object })._handle = { listen: () => 0, close: () => {} };
    t.throws(() => intercept(server, { transparent: true }), {
      code: 'ERR_TRANSPARENT_SHARED',
      hint: /exclusive: true.*SCHED_NONE/,
    });
  });

  await t.test('a unix-domain socket cannot be', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'original-dst-'));
    t.teardown(() => rmSync(directory, { recursive: true }));
    const server = createServer({ transparent: true }).listen(join(directory, 'socket'));
    const [error] = await once(server, 'error');
    t.match(error, { code: 'ENOTSUP', syscall: 'setsockopt' });
    t.equal(server.listening, false);
  });

  await t.test('other errors stay as they are', async (t) => {
    const port = await listening(t, createNetServer());
    const server = createServer({ transparent: true }).listen(port);
    const [error] = await once(server, 'error');
    t.match(error, { code: 'EADDRINUSE', syscall: 'listen', port });
    server.listen(0);
    await once(server, 'listening');
    t.equal(getTransparent(socketFd(server)!), true);
    const own = new Error('of the program');
    server.once('error', (error) => t.equal(error, own));
    server.emit('error', own);
    server.close();
  });

  rerunUnprivileged(t, import.meta.url, await tcpListenerFd(t));
}

async function refused(): Promise<void> {
  const refusal = {
    code: 'EPERM',
    errno: -1,
    syscall: 'setsockopt',
    message: /IP_TRANSPARENT EPERM/,
    hint: /CAP_NET_ADMIN.*setpriv .*setcap cap_net_admin\+ep/,
  };

  for (const options of [
    { port: 0 },
    { port: 0, host: 'localhost' },
    { port: 0, host: '::1', exclusive: true },
    { fd: 3 },
  ] as ListenOptions[]) {
    await t.test(`refused: ${JSON.stringify(options)}`, async (t) => {
      const server = createServer({ transparent: true });
      server.on('listening', () => t.fail('must not listen'));
      server.listen(options);
      const [error] = await once(server, 'error');
      t.match(error, refusal);
      t.equal(server.listening, false);
      t.equal(server.address(), null);
    });
  }

  await t.test('refused twice', async (t) => {
    const server = createServer({ transparent: true });
    for (let i = 0; i < 2; i++) {
      server.listen(0);
      const [error] = await once(server, 'error');
      t.match(error, refusal);
    }
  });

  await t.test('refused at once for a server that listens already, which stays as it was', async (t) => {
    const server = createNetServer();
    await listening(t, server);
    t.throws(() => intercept(server, { transparent: true }), refusal);
    t.equal(server.listening, true);
    t.notOk('interceptStats' in server);
    intercept(server);
    t.ok('interceptStats' in server);
  });
}

await (unprivileged ? refused() : inNamespace(t, import.meta.url, withRights));
