// createDatagramSocket() behind a capture: datagrams with and without connect(2), and answers that come from where the
// program has sent to.
import t from 'tap';
import { attachCapture } from '../../lib/ebpf/index.ts';
import { createDatagramSocket, type DatagramInfo } from '../../lib/index.ts';
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

    const outsider = startClient(t);
    t.equal(
      await outsider(
        `s = dial('127.255.0.0', ${PORT}, socket.SOCK_DGRAM); s.send(b'q'); answer = s.recv(99).decode()`,
      ),
      'q unknown',
      'an alias that stands for nothing',
    );
    t.match(seen.at(-1), { kind: 'unknown', cause: { code: 'ERR_ALIAS_REUSED' } });
    t.equal(
      await outsider(
        `s = dial('127.0.0.1', ${PORT}, socket.SOCK_DGRAM); s.send(b'q'); answer = s.recv(99).decode()`,
      ),
      `q 127.0.0.1 ${PORT}`,
    );
    t.equal(seen.at(-1)!.kind, 'direct');
    t.equal(capture.stats.captured, 6);
  },
  { limited: true },
);
