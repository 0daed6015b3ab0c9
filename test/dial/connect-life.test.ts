// connect(): errors, destroy(), AbortSignal, timeouts.
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect as netConnect } from 'node:net';
import { constants } from 'node:os';
import { setTimeout as passed } from 'node:timers/promises';
import t from 'tap';
import { connect } from '../../lib/index.ts';
import { closed, dialNetwork, failure, leakFree, seenBy, whoami } from '../fixtures/dialling.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

await inNamespace(t, import.meta.url, async () => {
  dialNetwork();

  t.test('errors have the shape of net.connect’s', async (t) => {
    sh(
      'echo 1 > /proc/sys/net/ipv4/tcp_syn_retries; echo 1 > /proc/sys/net/ipv4/tcp_syn_linear_timeouts || true',
    );
    sh('ip neigh add 10.9.0.99 lladdr 02:00:00:00:00:99 dev v0'); // nobody there: the SYN vanishes
    await leakFree(t, async () => {
      const silence = failure(connect({ address: '10.9.0.99', port: 81, mark: 5 }));
      for (const [address, port] of [
        ['127.0.0.1', 1],
        ['::1', 1],
        ['203.0.113.5', 80],
      ] as const) {
        const theirs = await failure(netConnect({ host: address, port }));
        const ours = await failure(connect({ address, port, mark: 5 }));
        t.same(
          { ...ours, message: ours.message },
          { ...theirs, message: theirs.message },
          `${theirs.message}`,
        );
        const plain = await failure(connect({ address, port }));
        t.same(
          { ...plain, message: plain.message },
          { ...theirs, message: theirs.message },
          'without options',
        );
      }
      t.match(await silence, {
        code: 'ETIMEDOUT',
        syscall: 'connect',
        address: '10.9.0.99',
        port: 81,
        message: 'connect ETIMEDOUT 10.9.0.99:81',
      });
    });
  });

  t.test('an address that does not answer in time', async (t) => {
    sh("printf '10.9.0.99 silent.test\\n10.9.0.98 silents.test\\n10.9.0.99 silents.test\\n' > /run/hosts");
    sh('ip neigh add 10.9.0.98 lladdr 02:00:00:00:00:98 dev v0; mount --bind /run/hosts /etc/hosts');
    t.teardown(() => sh('umount /etc/hosts'));
    sh('echo 6 > /proc/sys/net/ipv4/tcp_syn_retries'); // two minutes
    const start = performance.now();
    const error = {
      code: 'ETIMEDOUT',
      errno: -constants.errno.ETIMEDOUT,
      syscall: 'connect',
      address: '10.9.0.99',
      port: 81,
    };
    await leakFree(t, async () => {
      for (const address of ['10.9.0.99', 'silent.test']) {
        for (const mark of [{}, { mark: 5 }]) {
          t.match(await failure(connect({ address, port: 81, connectTimeout: 30, ...mark })), error, address);
        }
      }
      const several = connect({
        address: 'silents.test',
        port: 81,
        connectTimeout: 300,
        autoSelectFamilyAttemptTimeout: 20,
      });
      const began: [string, number][] = [];
      several.on('connectionAttempt', (address: string) => began.push([address, performance.now()]));
      t.match(await failure(several), error, 'the last of several');
      t.same(
        began.map(([address]) => address),
        ['10.9.0.98', '10.9.0.99'],
      );
      t.ok(performance.now() - began[1]![1] > 290, 'which has had all of its time');
    });
    t.ok(performance.now() - start < 60_000, 'long before the kernel gives up');
    const { port } = await whoami(t, '127.0.0.1');
    const socket = connect({ address: '127.0.0.1', port, connectTimeout: 100 });
    await seenBy(socket);
    const patient = connect({ address: '10.9.0.99', port: 81, connectTimeout: 0 });
    await passed(200);
    t.notOk(socket.destroyed, 'it is the time of connecting alone');
    t.ok(patient.connecting, '0: none');
    await Promise.all([closed(socket), closed(patient)]);
    for (const connectTimeout of [-1, 1.5, 2 ** 31]) {
      t.throws(() => connect({ address: '127.0.0.1', port, connectTimeout }), { code: 'ERR_OUT_OF_RANGE' });
    }
    t.throws(() => connect({ address: '127.0.0.1', port, connectTimeout: '5' as never }), {
      code: 'ERR_INVALID_ARG_TYPE',
    });
  });

  t.test('what the system refuses names the call', async (t) => {
    await leakFree(t, async () => {
      const foreign = await failure(
        connect({ address: '127.0.0.1', port: 1, source: { address: '192.0.2.1' } }),
      );
      t.match(foreign, { code: 'EADDRNOTAVAIL', syscall: 'bind', address: '192.0.2.1', hint: /transparent/ });
      const device = await failure(connect({ address: '127.0.0.1', port: 1, interface: 'nope0' }));
      t.match(device, { code: 'ENODEV', syscall: 'setsockopt', message: /SO_BINDTODEVICE/ });
      const scope = await failure(connect({ address: '::1', port: 1, source: { address: 'fe80::1%nope0' } }));
      t.match(scope, { code: 'ENODEV', syscall: 'bind' });
      const [, limit] = /Max open files +(\d+)/.exec(readFileSync('/proc/self/limits', 'latin1'))!;
      const soft = (value: string | number): string => sh(`prlimit --pid ${process.pid} --nofile=${value}:`);
      soft(256);
      const fds: number[] = [];
      t.throws(
        () => {
          while (fds.length < 256) fds.push(openSync('/dev/null', 'r'));
        },
        { code: 'EMFILE' },
      );
      const none = await failure(connect({ address: '127.0.0.1', port: 1, mark: 1 }));
      for (const fd of fds) closeSync(fd);
      soft(limit!);
      t.match(none, { code: 'EMFILE', syscall: 'socket' });
    });
  });

  t.test('destroy() while connecting, before and after the SYN', async (t) => {
    await leakFree(t, async () => {
      const early = connect({ address: '10.9.0.99', port: 80, mark: 1 });
      early.destroy();
      await once(early, 'close');
      const late = connect({ address: '10.9.0.99', port: 80, mark: 1 });
      await new Promise((resolve) => setTimeout(resolve, 20));
      t.equal(late.connecting, true);
      late.destroy();
      await once(late, 'close');
      t.equal(late.connecting, false);
    });
  });

  t.test('AbortSignal: aborted before, while connecting, later', async (t) => {
    const { port } = await whoami(t, '127.0.0.1');
    await leakFree(t, async () => {
      const before = await failure(
        connect({ address: '127.0.0.1', port, mark: 1, signal: AbortSignal.abort() }),
      );
      t.equal(before.name, 'AbortError');
      const aborted = connect({ address: '127.0.0.1', port, signal: AbortSignal.abort() });
      const events: string[] = [];
      for (const event of ['error', 'connect', 'close']) aborted.on(event, () => events.push(event));
      await new Promise((resolve) => setTimeout(resolve, 50));
      t.same(events, ['error', 'close'], 'and it never connects');
      const during = new AbortController();
      const connecting = failure(connect({ address: '10.9.0.99', port: 80, mark: 1, signal: during.signal }));
      setTimeout(() => during.abort(), 10);
      t.equal((await connecting).name, 'AbortError');
      const after = new AbortController();
      const socket = connect({ address: '127.0.0.1', port, mark: 1, signal: after.signal });
      await seenBy(socket);
      const failed = failure(socket);
      after.abort();
      t.equal((await failed).name, 'AbortError');
    });
  });

  t.test('timeout, allowHalfOpen, writes before the connection', async (t) => {
    const { port } = await whoami(t, '127.0.0.1');
    await leakFree(t, async () => {
      const slow = connect({ address: '10.9.0.99', port: 80, mark: 1, timeout: 20 });
      await once(slow, 'timeout');
      t.equal(slow.connecting, true, 'as with net.connect, the timeout only tells');
      await closed(slow);

      const socket = connect({
        address: '127.0.0.1',
        port,
        source: { address: '127.0.0.6' },
        allowHalfOpen: true,
      });
      t.equal(socket.allowHalfOpen, true);
      const ready = once(socket, 'ready');
      const big = Buffer.alloc(1_000_000, 'x');
      socket.write(big);
      socket.end('!');
      t.ok(socket.bytesWritten > 0, 'counted while queued');
      let received = 0;
      let text = '';
      socket.on('data', (data: Buffer) => {
        if (text.length < 200) text += String(data.subarray(0, 200));
        received += data.length;
      });
      await ready;
      await once(socket, 'end');
      t.equal(received - text.indexOf('\n') - 1, big.length + 1, 'every byte came back');
      t.equal(socket.bytesWritten, big.length + 1);
      await closed(socket);
      t.equal(
        connect({ address: '127.0.0.1', port })
          .on('error', () => {})
          .destroy().allowHalfOpen,
        false,
      );
    });
  });
});
