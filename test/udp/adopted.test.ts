// createDatagramSocket({ fd }): a socket that somebody else has bound.
import { createSocket, type SocketOptions } from 'node:dgram';
import { closeSync, fstatSync } from 'node:fs';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { binding } from '../../lib/binding.ts';
import { createDatagramSocket } from '../../lib/index.ts';
import {
  closedFd,
  fileFd,
  openSockets,
  sockets,
  socketsLeft,
  tcpListenerFd,
} from '../fixtures/descriptors.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { client, internet, nextMessage, redirectRules } from '../fixtures/udp.ts';

/** A bound socket that is nobody's. */
async function bound(type: SocketOptions, address: string, port = 0): Promise<{ fd: number; port: number }> {
  const before = sockets();
  const socket = createSocket(type).bind(port, address);
  await once(socket, 'listening');
  const own = [...sockets()].find((fd) => !before.has(fd));
  const fd = binding().duplicateFd(own!);
  const at = socket.address().port;
  socket.close();
  return { fd, port: at };
}

await inNamespace(t, import.meta.url, async () => {
  sh('ip addr add 192.0.2.1/32 dev lo');
  internet(['198.51.100.7']);

  t.test('destinations and answers, of either family and of both', async (t) => {
    // What this thread asks conntrack with stays open: from the first socket on.
    let before: string[] | undefined;
    for (const [type, address, reached] of [
      [{ type: 'udp4' }, '127.0.0.1', ['127.0.0.1']],
      [{ type: 'udp6' }, '::', ['192.0.2.1', '::1']],
      [{ type: 'udp6', ipv6Only: true }, '::', ['::1']],
    ] as const) {
      const { fd, port } = await bound(type, address);
      // What has come before is read too.
      const early = await client(address === '::' ? 'udp6' : 'udp4');
      early.send('early', port, address === '::' ? '::1' : address);
      const socket = createDatagramSocket({ fd });
      t.same([socket.fd, socket.address().port, socket.address().address], [fd, port, address]);
      const [first, { destination }] = await nextMessage(socket);
      t.same([String(first), destination?.port], ['early', port]);
      for (const host of reached) {
        const from = await client(host.includes(':') ? 'udp6' : 'udp4');
        from.send('hello', port, host);
        const [data, info] = await nextMessage(socket);
        t.equal(String(data), 'hello');
        t.match(info, { kind: 'direct', destination: { address: host, port } });
        socket.reply('answer', info);
        const [answer, rinfo] = await nextMessage(from);
        t.equal(String(answer), 'answer');
        t.match(rinfo, { address: host, port });
        from.close();
      }
      early.close();
      socket.close();
      await once(socket, 'close');
      t.throws(() => fstatSync(fd), { code: 'EBADF' }, 'it was the socket’s');
      before ??= openSockets();
    }
    t.same(await socketsLeft(before!), []);
  });

  t.test('behind REDIRECT, with options', async (t) => {
    const { fd, port } = await bound({ type: 'udp4' }, '0.0.0.0', 15053);
    nft(redirectRules(port));
    const before = openSockets().length;
    const socket = createDatagramSocket({ fd, mark: 7, receiveBufferSize: 100_000, maxSize: 3 });
    t.equal(openSockets().length, before + 1, 'the kernel tells of entries that go, from the start');
    t.teardown(() => socket.close());
    t.match(sh(`ss -Hlunm 'sport = :${port}'`), /rb200000/);
    const from = await client('udp4');
    t.teardown(() => from.close());
    from.send('question', 53, '198.51.100.7');
    const [data, info] = await nextMessage(socket);
    t.equal(String(data), 'que');
    t.match(info, { kind: 'redirect', truncated: true, destination: { address: '198.51.100.7', port: 53 } });
  });

  t.test('what is no bound UDP socket stays whose it was', async (t: Test) => {
    const unbound = binding().openDialSocket(4, '127.0.0.1', 0, false, false, null, null, -1, -1) as number;
    t.teardown(() => closeSync(unbound));
    for (const [fd, code] of [
      [unbound, 'EINVAL'],
      [await tcpListenerFd(t), 'EINVAL'],
      [fileFd(t, '/dev/null'), 'ENOTSOCK'],
    ] as const) {
      t.throws(() => createDatagramSocket({ fd }), { code, syscall: 'getsockopt', hint: /bound/ });
      t.ok(fstatSync(fd), 'still open');
    }
    t.throws(() => createDatagramSocket({ fd: closedFd() }), { code: 'EBADF' });

    const { fd, port } = await bound({ type: 'udp4' }, '127.0.0.1');
    const first = createDatagramSocket({ fd });
    t.teardown(() => first.close());
    t.throws(() => createDatagramSocket({ fd }), { code: 'EEXIST', hint: /nobody else reads/ }, 'twice');
    const from = await client('udp4');
    t.teardown(() => from.close());
    from.send('still there', port, '127.0.0.1');
    t.equal(String((await nextMessage(first))[0]), 'still there');
  });
});
