// Dials that would come back, in all threads and cluster workers.
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createNetServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { createServer, intercept } from '../../lib/index.ts';
import { loopRefusal } from '../../lib/policy/loop-guard.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { accepted, listening } from '../fixtures/connections.ts';
import type { Question } from '../fixtures/programs/loop-party.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';

const party = fileURLToPath(new URL('../fixtures/programs/loop-party.js', import.meta.url));
const primary = fileURLToPath(new URL('../fixtures/programs/loop-cluster.js', import.meta.url));

const refused = (address: string, port: number, mark?: number): boolean => {
  const error = loopRefusal({ address, port }, mark);
  if (error !== undefined) t.equal(error.code, 'ERR_INTERCEPT_LOOP');
  return error !== undefined;
};

/** Asks a child process. `measured`: for the coverage. */
function asker<Q>(
  t: Test,
  file: string,
  env: NodeJS.ProcessEnv = {},
  measured = false,
): (question: Q) => Promise<string> {
  const around = measured ? process.env : unmeasured;
  const child: ChildProcess = fork(file, { env: { ...around, ...env }, execArgv: [] });
  const exited = once(child, 'exit');
  t.teardown(async () => {
    if (child.connected) child.disconnect();
    child.kill();
    await exited;
  });
  return async (question) => {
    const replied = once(child, 'message');
    child.send(question as object);
    return (await replied)[0] as string;
  };
}

await inNamespace(t, import.meta.url, async () => {
  sh(`
    ip link add v0 type veth peer name v1
    ip addr add 10.9.0.1/24 dev v0
    ip -6 addr add 2001:db8:9::1/64 dev v0 nodad
    ip -6 addr add fe80::9/64 dev v0 nodad
    ip link set v0 up
    ip link set v1 up
    ip link add d0 type veth peer name d1
    ip addr add 10.9.1.1/24 dev d0
    ip link set d0 up
    ip link set d0 down
    ip route add local 198.51.100.0/24 dev lo
    ip route add 203.0.113.0/24 via 10.9.0.2
    ip route add unreachable 192.0.2.0/25
    ip route add blackhole 192.0.2.128/25
    ip rule add fwmark 1337 lookup 133
    ip route add local default dev lo table 133
  `);

  t.test('an address of this host and an intercepted port, both', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    for (const address of [
      '127.0.0.1',
      '127.200.3.4',
      '0.0.0.0',
      '10.9.0.1',
      '10.9.1.1',
      '198.51.100.77',
      '::1',
      '::',
      '::ffff:127.0.0.1',
      '2001:db8:9::1',
    ]) {
      t.equal(refused(address, port), true, `${address}, ours`);
      t.equal(refused(address, port === 15001 ? 15002 : 15001), false, `${address}, another port`);
    }
    t.equal(refused('fe80::9%v0', port), true, 'link-local');
    t.equal(refused('fe80::9%v1', port), false, 'the same address on another link');
    for (const address of [
      '10.9.0.2',
      '203.0.113.9',
      '192.0.2.1',
      '192.0.2.200',
      '100.64.0.1',
      '2001:db8:9::2',
      '2001:db8:77::1',
      'fe80::1234%v0',
    ]) {
      t.equal(refused(address, port), false, `${address}, another host`);
    }
    t.equal(refused('203.0.113.9', port, 1337), true, 'by a policy route for the dial’s mark');
    t.equal(refused('no address', port), true, 'in doubt, no loop');
  });

  t.test('from listening to close, for each of several servers', async (t) => {
    const wildcard = createServer().listen(0, '127.0.0.1');
    t.equal(refused('127.0.0.1', 1), false);
    await once(wildcard, 'listening');
    const { port } = wildcard.address() as { port: number };
    t.equal(refused('127.0.0.1', port), true);
    const second = createServer().listen(port, '127.0.0.2');
    await once(second, 'listening');
    wildcard.close();
    await once(wildcard, 'close');
    t.equal(refused('127.0.0.1', port), true, 'the other one still intercepts on that port');
    second.close();
    await once(second, 'close');
    t.equal(refused('127.0.0.1', port), false);
    second.listen(port, '127.0.0.2');
    await once(second, 'listening');
    t.equal(refused('127.0.0.1', port), true, 'listening once more');
    second.close();
    await once(second, 'close');

    second.listen(0, '127.0.0.2');
    await once(second, 'listening');
    const { port: before } = second.address() as { port: number };
    const held = await accepted(t, second, before, '127.0.0.2');
    second.close();
    second.listen(port, '127.0.0.2');
    await once(second, 'listening');
    t.equal(refused('127.0.0.2', before), false, 'moved with a connection open: no longer there');
    t.equal(refused('127.0.0.2', port), true, 'moved with a connection open: but here');
    held.destroy();
    second.close();
    await once(second, 'close');

    const plain = createNetServer();
    const plainPort = await listening(t, plain);
    t.equal(refused('127.0.0.1', plainPort), false, 'a server that intercepts nothing may be dialled');
    intercept(plain);
    t.equal(refused('127.0.0.1', plainPort), true, 'intercepted while it was listening');

    const unix = createServer().listen('/run/unix.sock');
    await once(unix, 'listening');
    unix.close();
    await once(unix, 'close');
    t.equal(refused('127.0.0.1', 0), false, 'a unix socket has no port');
  });

  t.test('worker threads see each other, until they end', async (t) => {
    const worker = new Worker(party, { execArgv: [] });
    const ask = async (question: Question): Promise<string> => {
      worker.postMessage(question);
      return (await once(worker, 'message'))[0] as string;
    };
    t.equal(await ask({ do: 'listen', port: 20001 }), 'listening');
    t.equal(refused('127.0.0.1', 20001), true);
    const server = createServer();
    const port = await listening(t, server);
    t.equal(await ask({ do: 'dial', port }), 'ERR_INTERCEPT_LOOP');
    await ask({ do: 'close' });
    t.equal(refused('127.0.0.1', 20001), false);
    t.equal(await ask({ do: 'listen', port: 20001 }), 'listening');
    t.equal(refused('127.0.0.1', 20001), true);
    await worker.terminate();
    t.equal(refused('127.0.0.1', 20001), false, 'terminated without a close');
  });

  t.test('another program is not asked', async (t) => {
    const ask = asker<Question>(t, party);
    t.equal(await ask({ do: 'listen', port: 20002 }), 'listening');
    t.equal(refused('127.0.0.1', 20002), false);
    const port = await listening(t, createServer());
    t.equal(await ask({ do: 'dial', port }), 'dial');
  });

  for (const policy of ['rr', 'none']) {
    t.test(`cluster workers see each other, NODE_CLUSTER_SCHED_POLICY=${policy}`, async (t) => {
      const ask = asker<[0 | 1, Question]>(
        t,
        primary,
        { NODE_CLUSTER_SCHED_POLICY: policy },
        policy === 'rr',
      );
      t.equal(await ask([0, { do: 'listen', port: 20003 }]), 'listening');
      t.equal(await ask([1, { do: 'dial', port: 20003 }]), 'ERR_INTERCEPT_LOOP');
      t.equal(await ask([1, { do: 'dial', port: 20004 }]), 'dial');
      t.equal(refused('127.0.0.1', 20003), false, 'they are not this program');
      t.equal(await ask([0, { do: 'close' }]), 'closed');
      t.equal(await ask([1, { do: 'dial', port: 20003 }]), 'dial');

      t.equal(await ask([0, { do: 'listen', port: 20005, exclusive: true }]), 'listening');
      t.equal(await ask([1, { do: 'thread' }]), 'thread');
      t.equal(
        await ask([1, { do: 'dial', port: 20005 }]),
        'ERR_INTERCEPT_LOOP',
        'from a thread of the other',
      );
      t.equal(await ask([1, { do: 'listen', port: 20006, exclusive: true }]), 'listening');
      t.equal(await ask([0, { do: 'dial', port: 20006 }]), 'ERR_INTERCEPT_LOOP', 'a server in that thread');
      t.equal(await ask([1, { do: 'end thread' }]), 'ended');
      t.equal(await ask([0, { do: 'dial', port: 20006 }]), 'dial', 'which has ended');
    });
  }
});
