// What becomes of a capture when its process is killed: nothing is left of it, or, pinned, it refuses until it is taken over.
import { existsSync, mkdirSync } from 'node:fs';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { spawn, spawnSync } from 'node:child_process';
import t, { type Test } from 'tap';
import { cgroupDirectory } from '../../lib/ebpf/cgroup.ts';
import { attachCapture } from '../../lib/ebpf/index.ts';
import { createDatagramSocket, type DatagramInfo } from '../../lib/index.ts';
import { inCaptureNamespace, limited, makeCgroup, startClient } from '../fixtures/captured.ts';
import { startTelling } from '../fixtures/capture-server.ts';
import { sh } from '../fixtures/netns.ts';

const PORT = 15001;

type UnknownDatagram = Extract<DatagramInfo, { kind: 'unknown' }>;
const PROGRAM = fileURLToPath(new URL('../fixtures/programs/capturing.js', import.meta.url));

/** Another process that captures; returns how to kill it. */
async function startCapturing(t: Test, ...args: string[]): Promise<() => Promise<void>> {
  const child = spawn(process.execPath, [PROGRAM, String(PORT), ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  t.teardown(() => child.kill('SIGKILL'));
  await Promise.race([once(child.stdout, 'data'), exited]);
  return async () => {
    child.kill('SIGKILL');
    await exited;
  };
}

/** A bpffs, which ends with the namespace. */
function mountBpf(): void {
  mkdirSync('/run/bpf', { recursive: true });
  sh('mount -t bpf none /run/bpf');
}

async function pins(t: Test): Promise<void> {
  const cgroup = makeCgroup(t);
  const client = startClient(t, { cgroup });
  const dial = (address: string): string => `answer = ask(dial('${address}', 80))`;
  const told = (address: string) => ({ kind: 'ebpf', address, port: 80 });
  const routes = (): string => sh('ip -6 route show table local');

  await t.test('killed: programs dial by themselves again', async (t) => {
    const kill = await startCapturing(t, cgroup);
    t.match(await client(dial('192.0.2.1')), told('192.0.2.1'));
    await kill();
    t.match(await client(dial('192.0.2.1')), { error: 'ENETUNREACH' });
    t.match(routes(), 'fd0d:d057:0:3a99::/64', 'a route that leads nowhere is left');
    {
      await startTelling(t, PORT);
      await using capture = attachCapture({ cgroup, port: PORT });
      t.match(await client(dial('2001:db8::1')), told('2001:db8::1'), 'the next one starts all the same');
      t.equal(capture.stats.aliases, 1);
    }
    t.notMatch(routes(), 'fd0d', 'and leaves nothing');
  });

  // To give up rights takes one more.
  const fewer: [rights: string, step: string][] = [
    ['-all', 'netlink RTM_NEWROUTE'],
    ['-all,+bpf', 'netlink RTM_NEWROUTE'],
    ['-all,+net_admin', 'bpf BPF_\\w+'],
  ];
  await t.test('without the rights', (t) => {
    for (const [rights, step] of limited ? [] : fewer) {
      const { status, stderr } = spawnSync(
        'setpriv',
        [`--bounding-set=${rights}`, '--inh-caps=-all', process.execPath, PROGRAM, String(PORT + 2), cgroup],
        // One that could attach would stay.
        { encoding: 'utf8', timeout: 120_000, killSignal: 'SIGKILL' },
      );
      t.not(status, 0);
      t.match(stderr, new RegExp(`${step} .*EPERM: .*needs CAP_BPF and CAP_NET_ADMIN`), rights);
    }
    t.end();
  });

  await t.test('only one at a time', async (t) => {
    // What a program is called is for CAP_SYS_ADMIN to know.
    const name = (of: string): string => (limited ? '' : ` \\(${of}\\)`);
    await using first = attachCapture({ cgroup, port: PORT });
    t.throws(() => attachCapture({ cgroup, port: PORT + 1 }), {
      code: 'ERR_CAPTURE_STACKED',
      message: new RegExp(
        `BPF program \\d+ runs at getpeername4 of this cgroup already; programs \\d+${name('to4')}, .* \\d+${name('from6')} at connect4, .* of ${cgroupDirectory(cgroup)}, held by \\S+ \\(${process.pid}\\)`,
      ),
      hint: /bpftool/,
    });
    t.notMatch(routes(), 'fd0d:d057:0:3a9a', 'nothing is left of the second');
    t.equal(first.stats.captured, 0);
    await using another = attachCapture({ cgroup: makeCgroup(t), port: PORT + 1 });
    t.equal(another.stats.captured, 0, 'of another cgroup there may be one more');
  });

  await t.test('pinned', async (t) => {
    const pin = '/run/bpf/proxy';
    const kill = await startCapturing(t, cgroup, pin);
    t.match(await client(dial('192.0.2.1')), told('192.0.2.1'));
    await kill();
    t.match(await client(dial('192.0.2.1')), { error: 'ECONNREFUSED' }, 'killed: refused, not let through');
    t.throws(() => attachCapture({ cgroup, port: PORT }), {
      code: 'ERR_CAPTURE_STACKED',
      message: /held by no process that can be seen/,
    });
    const above = cgroup;
    t.throws(() => attachCapture({ cgroup: makeCgroup(t, above), port: PORT }), {
      code: 'ERR_CAPTURE_STACKED',
      message: new RegExp(` of ${cgroupDirectory(above)}, held`),
    });
    t.throws(() => attachCapture({ cgroup, port: PORT, pin, destinations: 16 }), {
      code: 'ERR_CAPTURE_PINNED',
      hint: /remove \/run\/bpf\/proxy/,
    });
    t.throws(() => attachCapture({ cgroup: makeCgroup(t), port: PORT, pin }), { code: 'ERR_CAPTURE_PINNED' });
    t.match(
      await client(dial('192.0.2.1')),
      { error: 'ECONNREFUSED' },
      'who cannot take over leaves it as it is',
    );
    {
      const server = await startTelling(t, PORT);
      await using capture = attachCapture({ cgroup, port: PORT, pin, include: { ports: [80] } });
      t.match(await client(dial('192.0.2.1')), told('192.0.2.1'), 'taken over');
      t.match(
        await client(`answer = ask(dial('192.0.2.1', 81))`),
        { error: 'ENETUNREACH' },
        'with new rules',
      );
      t.equal(capture.stats.aliases, 1, 'and the aliases of before');
      t.equal(server.interceptStats.ebpf, 1);
    }
    t.match(await client(dial('192.0.2.1')), { error: 'ENETUNREACH' }, 'closed: nothing is captured');
    t.notOk(existsSync(pin), 'nor pinned');
    t.throws(() => attachCapture({ cgroup, port: PORT, pin: '/run/elsewhere' }), {
      code: 'EPERM',
      syscall: 'bpf',
    });
    t.notMatch(routes(), 'fd0d');
  });
  await t.test('pinned: datagrams', async (t) => {
    const pin = '/run/bpf/datagrams';
    const both = ['tcp', 'udp'] as const;
    const killBoth = await startCapturing(t, cgroup, pin, ...both);
    await killBoth();
    const alias = await client(`
held = dial('1.1.1.1', 53, socket.SOCK_DGRAM); inode = str(os.fstat(held.fileno()).st_ino)
rows = [row.split() for row in open('/proc/net/udp').readlines()[1:]]
answer = socket.inet_ntoa(bytes.fromhex([row[2] for row in rows if row[9] == inode][0].split(':')[0])[::-1])`);
    // As one that has other things to do while a datagram comes.
    const socket = createDatagramSocket({ port: PORT }).pause();
    t.teardown(() => socket.close());
    await startClient(t)(`socket.socket(2, 2).sendto(b'early', ('${String(alias)}', ${PORT}))`);
    await using capture = attachCapture({ cgroup, port: PORT, pin, protocols: both });
    socket.resume();
    const [early, { kind, cause }] = (await once(socket, 'message')) as [Buffer, UnknownDatagram];
    t.match([String(early), kind, cause], ['early', 'unknown', { code: 'ERR_ALIAS_DIALLED' }]);
    const next = once(socket, 'message');
    await client(`held.send(b'q')`);
    t.match(await next, [Buffer.from('q'), { kind: 'ebpf', destination: { address: '1.1.1.1', port: 53 } }]);
    t.equal(capture.stats.captured, 1);
  });
}

await inCaptureNamespace(t, import.meta.url, pins, { limited: true, prepare: mountBpf });
