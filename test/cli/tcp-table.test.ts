// What the kernel still has to do for the connections of a proxy, from its own table of sockets.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { allAccepted, allAcknowledged, tcpSockets } from '../../lib/cli/tcp-table.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';

const PORT = 15001;

/** Listens and never accepts: from the moment that it is ready, its thread sleeps for ever. */
const ASLEEP = `require('node:net').createServer().listen(${PORT}, '::', () => {
  require('node:fs').writeSync(1, 'ready');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
})`;

/** Whether it is waited for, and that it ends when the cause has gone. */
async function waitedFor(
  t: Test,
  wait: (signal: AbortSignal) => Promise<void>,
  end: () => void,
): Promise<void> {
  let done = false;
  const waiting = wait(new AbortController().signal).then(() => (done = true));
  await delay(300);
  t.notOk(done, 'is waited for');
  await wait(AbortSignal.timeout(10));
  t.pass('unless the signal says no');
  end();
  await waiting;
}

/** From now on nothing but SYN arrives at that port. */
function silence(port: number): void {
  nft(`table ip silent {
    chain in {
      type filter hook input priority 0
      tcp dport ${port} tcp flags & syn == 0 drop
    }
  }`);
}

function hear(): void {
  sh('nft delete table ip silent');
}

await inNamespace(t, import.meta.url, async () => {
  sh(
    'ip addr add 192.0.2.1/32 dev lo; ip -6 addr add 2001:db8::1/128 dev lo nodad; ip route add local 203.0.113.0/24 dev lo',
  );

  t.test('whose addresses they are', async (t) => {
    for (const [host, own] of [
      ['192.0.2.1', true],
      ['::ffff:192.0.2.1', true],
      ['2001:db8::1', true],
      ['203.0.113.9', false],
    ] as const) {
      const server = createServer().listen(PORT, host);
      await once(server, 'listening');
      t.same(await tcpSockets(), [{ own, port: PORT, state: 10, queue: 0 }], host);
      server.close();
    }
    const directory = mkdtempSync(join(tmpdir(), 'net-'));
    writeFileSync(join(directory, 'tcp'), '  sl  local_address rem_address   st tx_queue rx_queue\n');
    t.same(await tcpSockets(directory), [], 'nothing, and no IPv6');
  });

  t.test('nothing to wait for', async (t) => {
    await allAccepted(PORT, new AbortController().signal);
    await allAcknowledged(PORT, new AbortController().signal);
    t.pass();
  });

  t.test('a connection that nobody has accepted', async (t) => {
    const asleep = spawn(process.execPath, ['-e', ASLEEP], {
      env: unmeasured,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(asleep.stdout, 'data');
    const client = connect(PORT, '192.0.2.1');
    await once(client, 'connect');
    client.on('error', () => {});
    await waitedFor(
      t,
      (signal) => allAccepted(PORT, signal),
      () => void asleep.kill('SIGKILL'),
    );
    await allAccepted(PORT + 1, new AbortController().signal);
  });

  t.test('a handshake, and a farewell', async (t) => {
    const server = createServer({ allowHalfOpen: true }).listen(PORT, '::');
    await once(server, 'listening');
    t.teardown(() => server.close());

    silence(PORT);
    const client = connect({ port: PORT, host: '192.0.2.1', allowHalfOpen: true });
    await once(client, 'connect');
    client.write('x');
    const accepted = once(server, 'connection') as Promise<[Socket]>;
    await waitedFor(t, (signal) => allAccepted(PORT, signal), hear);
    const [socket] = await accepted;

    silence(PORT);
    socket.destroy();
    await waitedFor(t, (signal) => allAcknowledged(PORT, signal), hear);
    client.destroy();
  });

  t.test(
    'connections of others, which need no rules, and those with foreign addresses, which do',
    async (t) => {
      const server = createServer().listen(PORT + 1, '::');
      await once(server, 'listening');
      t.teardown(() => server.close());
      for (const [host, waits] of [
        ['192.0.2.1', false],
        ['203.0.113.9', true],
      ] as const) {
        const accepted = once(server, 'connection') as Promise<[Socket]>;
        const client = connect(PORT + 1, host);
        const [socket] = await accepted;
        silence(PORT + 1);
        socket.destroy();
        if (waits) await waitedFor(t, (signal) => allAcknowledged(PORT, signal), hear);
        else await allAcknowledged(PORT, new AbortController().signal);
        if (!waits) hear();
        client.destroy();
      }
    },
  );
});
