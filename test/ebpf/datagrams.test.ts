// createDatagramSocket() behind a capture: datagrams with and without connect(2), and answers that come from where the
// program has sent to.
import { once } from 'node:events';
import t from 'tap';
import { attachCapture } from '../../lib/ebpf/index.ts';
import { createDatagramSocket, type DatagramInfo } from '../../lib/index.ts';
import { startTelling } from '../fixtures/capture-server.ts';
import { inCaptureNamespace, makeCgroup, startClient } from '../fixtures/captured.ts';

const PORT = 15053;

await inCaptureNamespace(
  t,
  import.meta.url,
  async (t) => {
    const cgroup = makeCgroup(t);
    const client = startClient(t, { cgroup });
    await using capture = attachCapture({
      cgroup,
      port: PORT,
      protocols: ['udp'],
      include: { ports: [53, 443] },
    });
    const socket = createDatagramSocket({ port: PORT });
    t.teardown(() => socket.close());
    const seen: DatagramInfo[] = [];
    socket.on('message', (data, info) => {
      seen.push(info);
      const { destination } = info;
      socket.reply(
        `${String(data)} ${destination ? `${destination.address} ${destination.port}` : info.kind}`,
        info,
      );
    });

    for (const [what, code, expected] of [
      [
        'one socket, two servers in flight, as musl’s resolver does',
        `
s = socket.socket(2, 2)
for server in '8.8.8.8', '9.9.9.9': s.sendto(b'q', (server, 53))
answer = sorted([text.decode(), list(source)] for text, source in [s.recvfrom(99) for i in (1, 2)])`,
        [
          ['q 8.8.8.8 53', ['8.8.8.8', 53]],
          ['q 9.9.9.9 53', ['9.9.9.9', 53]],
        ],
      ],
      [
        'a connected socket',
        `
s = dial('1.1.1.1', 53, socket.SOCK_DGRAM); s.send(b'q'); text, source = s.recvfrom(99)
answer = [text.decode(), source, s.getpeername()]`,
        ['q 1.1.1.1 53', ['1.1.1.1', 53], ['1.1.1.1', 53]],
      ],
      [
        'IPv6',
        `
s = socket.socket(10, 2); s.sendto(b'q', ('2001:4860:4860::8888', 53)); text, source = s.recvfrom(99)
answer = [text.decode(), source[:2]]`,
        ['q 2001:4860:4860::8888 53', ['2001:4860:4860::8888', 53]],
      ],
      [
        'IPv6, connected',
        `
s = dial('2620:fe::fe', 443, socket.SOCK_DGRAM); s.send(b'q'); text, source = s.recvfrom(99)
answer = [text.decode(), source[:2], s.getpeername()[:2]]`,
        ['q 2620:fe::fe 443', ['2620:fe::fe', 443], ['2620:fe::fe', 443]],
      ],
      [
        'an IPv4-mapped address',
        `
s = socket.socket(10, 2); s.sendto(b'q', ('::ffff:8.8.4.4', 53)); text, source = s.recvfrom(99)
answer = [text.decode(), source[:2]]`,
        ['q 8.8.4.4 53', ['::ffff:8.8.4.4', 53]],
      ],
    ] as const) {
      t.same(await client(code), expected, what);
    }
    t.same(new Set(seen.map(({ kind }) => kind)), new Set(['ebpf']));
    t.match(socket.stats, { ebpf: 6, direct: 0, unknown: 0, replySockets: 0 });
    t.match(
      await client(`socket.socket(2, 2).sendto(b'q', ('8.8.8.8', 54))`),
      { error: 'ENETUNREACH' },
      'a port that is not included',
    );
    t.match(
      await client(`answer = dial('8.8.8.8', 53).getpeername()`),
      { error: 'ENETUNREACH' },
      'nor is TCP',
    );

    await t.test('an outsider, who sends to an alias', async (t) => {
      // What the program's socket is connected to, as everybody may see it in /proc/net/udp.
      const [alias, port] = (await client(`
held = dial('1.1.1.1', 53, socket.SOCK_DGRAM)
held.send(b'q'); held.recv(99)
rows = [row.split() for row in open('/proc/net/udp').readlines()[1:]]
inode = str(os.fstat(held.fileno()).st_ino)
word = [row[2] for row in rows if row[9] == inode][0].split(':')[0]
answer = [socket.inet_ntoa(bytes.fromhex(word)[::-1]), held.getsockname()[1]]
held.close()`)) as [string, number];
      t.match(alias, /^127\.(12[89]|1[3-9]\d|2\d\d)\./);
      const before = seen.length;
      const outsider = startClient(t);
      const send = (from: string): string => `
s = socket.socket(2, 2); s.bind(('127.0.0.1', ${from})); s.sendto(b'forged', ('${alias}', ${PORT}))
s.sendto(b'q', ('127.0.0.1', ${PORT})); answer = s.recv(99).decode()`;
      t.equal(await outsider(send('0')), `q 127.0.0.1 ${PORT}`, 'is answered what was sent to the server');
      t.equal(await outsider(send(String(port))), `q 127.0.0.1 ${PORT}`, 'from the program’s very port too');
      t.match(seen.slice(before), [{ kind: 'direct' }, { kind: 'direct' }], 'nothing else has come');
      t.match(capture.stats, { captured: 7, refused: 2 });
      await outsider(
        `s = socket.socket(10, 2); s.sendto(b'forged', ('fd0d:d057:0:${PORT.toString(16)}::1', ${PORT}))`,
      );
      t.equal(capture.stats.refused, 3, 'of IPv6');
      t.match(
        await client(`socket.socket(2, 2).sendto(b'forged', ('${alias}', ${PORT}))`),
        { error: 'EPERM' },
        'a program of the cgroup is told',
      );
    });

    await t.test('TCP and UDP to one address and port', async (t) => {
      const port = PORT + 3;
      const inner = makeCgroup(t);
      const program = startClient(t, { cgroup: inner });
      await using both = attachCapture({ cgroup: inner, port, protocols: ['tcp', 'udp'] });
      const datagrams = createDatagramSocket({ port });
      t.teardown(() => datagrams.close());
      datagrams.on('message', (_, info) =>
        datagrams.reply(`${info.kind} ${info.destination?.address}`, info),
      );
      await startTelling(t, port);
      t.match(
        await program(`
s = dial('192.0.2.1', 53, socket.SOCK_DGRAM); s.send(b'q')
answer = [s.recv(99).decode(), ask(dial('192.0.2.1', 53))]`),
        ['ebpf 192.0.2.1', { kind: 'ebpf', address: '192.0.2.1', port: 53 }],
      );
      t.match(both.stats, { captured: 2, aliases: 2 });
    });

    await t.test('an alias that is another destination’s before its datagram is read', async (t) => {
      const port = PORT + 2;
      const inner = makeCgroup(t);
      const program = startClient(t, { cgroup: inner });
      await using few = attachCapture({ cgroup: inner, port, protocols: ['udp'], destinations: 16 });
      const waiting = createDatagramSocket({ port }).pause();
      t.teardown(() => waiting.close());
      const read: unknown[] = [];
      waiting.on('message', (_, info) =>
        read.push(info.kind === 'unknown' ? [info.kind, info.cause] : info.destination.port),
      );
      await program(`
s = socket.socket(2, 2)
for i in range(20): s.sendto(b'q', ('192.0.2.1', 8000 + i))`);
      t.equal(few.stats.aliases, 20);
      waiting.resume();
      while (read.length < 20) await once(waiting, 'message');
      const reused = ['unknown', { code: 'ERR_ALIAS_REUSED' }];
      t.match(
        read,
        Array.from({ length: 20 }, (_, i) => (i < 4 ? reused : 8000 + i)),
      );
    });

    await t.test(
      'a socket that is opened when the capture is there, and one that is left behind',
      async (t) => {
        const port = PORT + 1;
        const inner = makeCgroup(t);
        const program = startClient(t, { cgroup: inner });
        const late = attachCapture({ cgroup: inner, port, protocols: ['udp'] });
        const second = createDatagramSocket({ port });
        t.teardown(() => second.close());
        const kinds: string[] = [];
        second.on('message', (data, info) => {
          kinds.push(`${String(data)}: ${info.kind}`);
          second.reply(data, info);
        });
        const ask = `s = dial('192.0.2.1', 7, socket.SOCK_DGRAM); s.send(b'q'); answer = s.recv(9).decode()`;
        t.equal(await program(ask), 'q');
        late.close();
        const local = `s = dial('127.200.0.1', ${port}, socket.SOCK_DGRAM); s.send(b'local'); answer = s.recv(9).decode()`;
        t.equal(await program(local), 'local', 'what were aliases are addresses of this host again');
        t.same(kinds, ['q: ebpf', 'local: direct']);
      },
    );
  },
  { limited: true },
);
