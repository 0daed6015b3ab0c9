// attachCapture(): what programs of a cgroup dial over TCP, in all the ways there are to dial.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createNetServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { cgroupDirectory } from '../../lib/ebpf/cgroup.ts';
import { attachCapture, type CaptureOptions } from '../../lib/ebpf/index.ts';
import type { OriginalDst } from '../../lib/index.ts';
import { inCaptureNamespace, makeCgroup, moveInto, startClient } from '../fixtures/captured.ts';
import { sh } from '../fixtures/netns.ts';
import { startTelling } from '../fixtures/capture-server.ts';

const PORT = 15001;

const told = (address: string, port: number) => ({ kind: 'ebpf', address, port });

await inCaptureNamespace(
  t,
  import.meta.url,
  async (t) => {
    const server = await startTelling(t, PORT);
    const cgroup = makeCgroup(t);
    const client = startClient(t, { cgroup });
    const attach = (options: Partial<CaptureOptions> = {}) =>
      attachCapture({ cgroup, port: PORT, destinations: 256, ...options });

    await t.test('there is no way out of this namespace', async (t) => {
      t.match(await client(`answer = ask(dial('93.184.216.34', 8081))`), { error: 'ENETUNREACH' });
    });

    await t.test('every way to dial', async (t) => {
      const capture = attach();
      t.teardown(() => capture.close());
      const ways: [what: string, code: string, expected: object][] = [
        ['IPv4', `answer = ask(dial('93.184.216.34', 8081))`, told('93.184.216.34', 8081)],
        ['IPv6', `answer = ask(dial('2606:2800:220:1::1', 80))`, told('2606:2800:220:1::1', 80)],
        ['IPv4-mapped', `answer = ask(dial('::ffff:1.2.3.4', 99))`, told('1.2.3.4', 99)],
        [
          'IPv6 alone',
          `s = socket.socket(10); s.setsockopt(41, 26, 1); s.connect(('2001:db8::4', 99)); answer = ask(s)`,
          told('2001:db8::4', 99),
        ],
        [
          'nonblocking',
          `
s = socket.socket(); s.setblocking(False)
try: s.connect(('192.0.2.7', 7))
except BlockingIOError: pass
select.select([], [s], [], 5); s.setblocking(True); answer = ask(s)`,
          told('192.0.2.7', 7),
        ],
        [
          'TCP Fast Open',
          `s = socket.socket(); s.settimeout(None); s.sendto(b'x', socket.MSG_FASTOPEN, ('192.0.2.8', 8)); answer = ask(s)`,
          told('192.0.2.8', 8),
        ],
        [
          'from a bound address',
          `s = socket.socket(); s.bind(('127.0.0.9', 0)); s.connect(('192.0.2.9', 9)); answer = ask(s)`,
          told('192.0.2.9', 9),
        ],
        [
          'from IPv6, bound',
          `s = socket.socket(10); s.bind(('::1', 0)); s.connect(('2001:db8::9', 9)); answer = ask(s)`,
          told('2001:db8::9', 9),
        ],
        [
          'bound to the loopback interface',
          `s = socket.socket(); s.setsockopt(1, 25, b'lo'); s.connect(('192.0.2.10', 10)); answer = ask(s)`,
          told('192.0.2.10', 10),
        ],
      ];
      for (const [what, code, expected] of ways) t.match(await client(code), expected, what);
      const mptcp = '/proc/sys/net/mptcp/enabled';
      await t.test(
        'MPTCP',
        {
          skip:
            existsSync(mptcp) && readFileSync(mptcp, 'utf8') === '1\n' ? false : 'no MPTCP in this kernel',
        },
        async (t) => {
          t.match(await client(`answer = ask(dial('192.0.2.11', 11, protocol=262))`), told('192.0.2.11', 11));
        },
      );
      t.match(
        await client(`answer = dial('93.184.216.34', 8081).getpeername()`),
        ['93.184.216.34', 8081],
        'the program sees its destination',
      );
      t.match(await client(`answer = dial('2001:db8::1', 81).getpeername()[:2]`), ['2001:db8::1', 81]);
    });

    await t.test('the same destination again has the same alias; two from one port do not', async (t) => {
      const capture = attach();
      t.teardown(() => capture.close());
      const pair = `
def bound(port):
    s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', 45679)); s.connect(('192.0.2.1', port)); return s
a = bound(80); b = bound(81); answer = [ask(b), ask(a)]`;
      for (let i = 0; i < 3; i++) t.match(await client(pair), [told('192.0.2.1', 81), told('192.0.2.1', 80)]);
      t.match(capture.stats, { captured: 6, aliases: 2, refused: 0, exhausted: 0, lost: 0 });
    });

    await t.test('more connections than there are ports to dial from', async (t) => {
      const range = '/proc/sys/net/ipv4/ip_local_port_range';
      const before = readFileSync(range, 'utf8');
      writeFileSync(range, '40000 40019');
      t.teardown(() => writeFileSync(range, before));
      await using capture = attach();
      const many = `
held = [dial('192.0.2.%d' % i, 80) for i in range(1, 61)]
ports = set(s.getsockname()[1] for s in held)
answer = [len(ports) <= 20, [ask(s) for s in held]]`;
      t.match(await client(many), [true, Array.from({ length: 60 }, (_, i) => told(`192.0.2.${i + 1}`, 80))]);
      t.match(capture.stats, { captured: 60, aliases: 60 });
    });

    await t.test('an alias is no destination', async (t) => {
      const capture = attach();
      t.teardown(() => capture.close());
      const outsider = startClient(t);
      // The program's end of a captured connection, as everybody may see it in /proc/net/tcp.
      const alias = await client(`
s = dial('192.0.2.1', 80); number = s.fileno()
inode = os.stat('/proc/self/fd/%d' % number).st_ino
rows = [row.split() for row in open('/proc/net/tcp').readlines()[1:]]
word, port = [row[2].split(':') for row in rows if row[9] == str(inode)][0]
answer = [socket.inet_ntoa(bytes.fromhex(word)[::-1]), int(port, 16), s.getsockname()[1], ask(s)]`);
      const [address, port, source] = alias as [string, number, number];
      t.match(alias, [/^127\.(12[89]|1[3-9]\d|2\d\d)\./, PORT, Number, told('192.0.2.1', 80)]);
      const unknown = { kind: 'unknown', code: 'ERR_ALIAS_DIALLED' };
      t.match(await outsider(`answer = ask(dial('${address}', ${port}))`), unknown, 'dialled by an outsider');
      t.match(
        await outsider(
          `s = socket.socket(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', ${source})); s.connect(('${address}', ${port})); answer = ask(s)`,
        ),
        unknown,
        'from the very port of the connection that was captured',
      );
      t.match(
        await client(`answer = ask(dial('${address}', ${port}))`),
        { error: 'EPERM' },
        'by a program of the cgroup',
      );
      const hole = `fd0d:d057:0:${PORT.toString(16)}::1`;
      t.match(
        await outsider(`answer = ask(dial('${hole}', ${PORT}))`),
        unknown,
        'an alias that nobody was given',
      );
      t.match(await client(`answer = ask(dial('${hole}', ${PORT}))`), { error: 'EPERM' });
      t.match(
        await outsider(`answer = ask(dial('127.0.0.1', ${PORT}))`),
        { kind: 'direct' },
        'the server itself',
      );
      t.equal(capture.stats.refused, 2);
    });

    await t.test('an alias that is another destination’s before its connection is accepted', async (t) => {
      await using capture = attach({ destinations: 16 });
      const dials = `import socket; [socket.create_connection(('192.0.2.1', 8000 + i)) for i in range(20)]`;
      const seen: OriginalDst[] = [];
      const count = server.interceptStats.unknown;
      server.on('connection', ({ originalDst }) => seen.push(originalDst));
      // Nothing is accepted while this process waits.
      execFileSync('sh', [
        '-ec',
        `echo $$ >${cgroupDirectory(cgroup)}/cgroup.procs; exec python3 -c "${dials}"`,
      ]);
      while (seen.length < 20) await once(server, 'connection');
      t.equal(capture.stats.aliases, 20);
      t.equal(server.interceptStats.unknown - count, 4);
      t.match(
        seen,
        Array.from({ length: 20 }, (_, i) =>
          i < 4 ? { kind: 'unknown', cause: { code: 'ERR_ALIAS_REUSED' } } : told('192.0.2.1', 8000 + i),
        ),
        'unknown, and never the other one',
      );
    });

    await t.test('who is captured', async (t) => {
      const late = startClient(t);
      await late(`import time; early = socket.socket(); answer = os.getpid()`);
      moveInto(cgroup, (await late('answer = os.getpid()')) as number);
      const capture = attach();
      t.teardown(() => capture.close());
      t.match(
        await late(`early.connect(('192.0.2.1', 80)); answer = 1`),
        { error: 'ENETUNREACH' },
        'not a socket from before its program came into the cgroup',
      );
      t.match(await late(`answer = ask(dial('192.0.2.1', 80))`), told('192.0.2.1', 80), 'the next one');
      t.match(
        await startClient(t)(`answer = ask(dial('192.0.2.1', 80))`),
        { error: 'ENETUNREACH' },
        'no outsider',
      );
      await t.test('not a program of another namespace', async (t) => {
        const elsewhere = startClient(t, { cgroup, wrapper: ['unshare', '-Urn'] });
        t.match(await elsewhere(`answer = ask(dial('192.0.2.1', 80))`), { error: 'ENETUNREACH' });
      });
      const inner = startClient(t, { cgroup: makeCgroup(t, cgroup) });
      t.match(await inner(`answer = ask(dial('192.0.2.1', 80))`), told('192.0.2.1', 80), 'cgroups below');
      const loopback = `l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(); dial('127.0.0.1', l.getsockname()[1]); answer = 'here'`;
      t.equal(await client(loopback), 'here', 'loopback is left alone');
    });

    await t.test('what is open when the capture ends', async (t) => {
      const holder = createNetServer((socket) => socket.on('error', () => {}).pipe(socket));
      await new Promise<void>((resolve) => holder.listen(PORT + 1, '::', resolve));
      t.teardown(() => holder.close());
      const capture = attach({ port: PORT + 1 });
      await client(`held = [dial('192.0.2.1', 80), dial('2001:db8::1', 80)]`);
      capture.close();
      const echo = `
answer = []
for s in held:
    s.sendall(b'still here'); answer.append(s.recv(99).decode())`;
      t.same(await client(echo), ['still here', 'still here']);
      t.match(await client(`answer = ask(dial('2001:db8::1', 80))`), { error: 'ENETUNREACH' });
      {
        await using another = attach({ port: PORT + 1 });
        t.equal(
          await client(`s = dial('2001:db8::2', 80); s.sendall(b'x'); answer = s.recv(9).decode()`),
          'x',
        );
        t.equal(another.stats.captured, 1);
        await client(`s.close()`);
      }
      t.same(await client(echo), ['still here', 'still here'], 'one more at that port has come and gone');
      const route = (): string => sh('ip -6 route show table local');
      t.match(route(), 'fd0d:d057:0:3a9a::/64');
      await client(`for s in held: s.close()`);
      for (let tries = 0; tries < 500 && route().includes('fd0d'); tries++) await delay(20);
      t.notMatch(route(), 'fd0d');
    });

    await t.test('after close', async (t) => {
      const capture = attach();
      t.match(await client(`answer = ask(dial('192.0.2.1', 80))`), told('192.0.2.1', 80));
      capture.close();
      capture.close();
      t.match(await client(`answer = ask(dial('192.0.2.1', 80))`), { error: 'ENETUNREACH' });
      t.match(await client(`answer = ask(dial('2001:db8::1', 80))`), { error: 'ENETUNREACH' });
      t.match(capture.stats, { captured: 1, aliases: 1 }, 'the numbers stay');
      {
        await using again = attach();
        t.match(await client(`answer = ask(dial('2001:db8::1', 80))`), told('2001:db8::1', 80));
        t.equal(again.stats.captured, 1);
      }
      t.match(await client(`answer = ask(dial('2001:db8::1', 80))`), { error: 'ENETUNREACH' });
    });
  },
  { limited: true },
);
