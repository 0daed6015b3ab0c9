// Entries asked for by ctnetlink, in several zones.
import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createDatagramSocket, type DatagramInfo } from '../../lib/index.ts';
import { defaultRoutes, inNamespace, nft } from '../fixtures/netns.ts';
import { client, nextMessage, redirectRules } from '../fixtures/udp.ts';
import { without } from '../fixtures/unprivileged.ts';

/** A zone for the packets of one mark each. */
const ZONES = `table inet zones {
  chain output {
    type filter hook output priority raw
    udp dport 53 meta mark 1 ct zone set 1
    udp dport 53 meta mark 2 ct zone set 2
    ip saddr 127.0.0.1 udp sport 15053 meta mark 1 ct zone set 1
  }
  chain prerouting {
    type filter hook prerouting priority raw
    udp sport 40053 meta mark 1 ct zone set 1
    udp sport 40053 meta mark 2 ct zone set 2
  }
}`;

function causeOf(info: DatagramInfo): NodeJS.ErrnoException & { hint?: string } {
  if (info.kind !== 'unknown') throw new Error(`kind is ${info.kind}`);
  return info.cause;
}

/** Sends one datagram with a mark, from a given port. */
function sendMarked(mark: number, port: number, address: string): void {
  const code = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 36, ${mark})
s.bind(('192.0.2.1', ${port}))
s.sendto(b'x', ('${address}', 53))
`;
  const { status, stderr } = spawnSync('python3', ['-c', code], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  /** What a program without capabilities is told, line by line. */
  const unprivileged = (): unknown[] => {
    const script = fileURLToPath(new URL('../fixtures/programs/unprivileged-datagrams.js', import.meta.url));
    const [program, ...args] = without('net_admin', 'net_raw');
    const { stdout, stderr, status } = spawnSync(program, [...args, process.execPath, script], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    if (status !== 0) throw new Error(stderr);
    return stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
  };

  await t.test('without rules nothing is tracked, and everything is direct', async (t) => {
    const socket = createDatagramSocket();
    t.teardown(() => socket.close());
    const from = await client('udp4');
    t.teardown(() => from.close());
    from.send('x', socket.address().port, '192.0.2.1');
    t.match((await nextMessage(socket))[1], { kind: 'direct' });
    t.match(unprivileged()[0], { kind: 'direct' }, 'without the right to ask too');
  });

  nft(redirectRules(15053));

  t.test('an answer to a datagram of ours is direct', async (t) => {
    const socket = createDatagramSocket();
    t.teardown(() => socket.close());
    const other = await client('udp4', '127.0.0.5');
    t.teardown(() => other.close());
    const { address, port } = other.address();
    socket.send('question', {
      destination: { address, port },
      source: { ...socket.address(), address: '127.0.0.4' },
    });
    const [, rinfo] = await nextMessage(other);
    t.equal(rinfo.address, '127.0.0.4');
    other.send('answer', rinfo.port, rinfo.address);
    const [, info] = await nextMessage(socket);
    t.match(info, { kind: 'direct', destination: { address: '127.0.0.4', port: rinfo.port } });
  });

  t.test('tracked in general, but not this one: unknown', async (t) => {
    nft(`table inet untracked {
      chain output {
        type filter hook output priority raw
        udp dport 15054 notrack
      }
      chain prerouting {
        type filter hook prerouting priority raw
        udp dport 15054 notrack
      }
    }`);
    t.teardown(() => nft('delete table inet untracked'));
    const socket = createDatagramSocket({ port: 15054 });
    t.teardown(() => socket.close());
    const from = await client('udp4');
    t.teardown(() => from.close());
    from.send('x', 15054, '127.0.0.1');
    const [, info] = await nextMessage(socket);
    t.match(causeOf(info), { code: 'ENOENT', syscall: 'netlink', hint: /no entry for this flow/ });
    t.equal(socket.reply('y', info), undefined);
    t.match((await nextMessage(from))[1], { address: '127.0.0.1', port: 15054 });
  });

  t.test('zones', async (t) => {
    nft(ZONES);
    t.teardown(() => nft('delete table inet zones'));
    // Zones 0, 1 and 2: those of this package's rules.
    const socket = createDatagramSocket({ port: 15053 });
    t.teardown(() => socket.close());
    sendMarked(1, 40053, '198.51.100.7');
    t.match((await nextMessage(socket))[1], {
      kind: 'redirect',
      destination: { address: '198.51.100.7', port: 53 },
      source: { address: '192.0.2.1', port: 40053 },
    });
    // The same addresses after NAT, in another zone: nothing tells which of the two it was.
    await sleep(150);
    sendMarked(2, 40053, '198.51.100.8');
    const [, info] = await nextMessage(socket);
    t.match(causeOf(info), { code: 'EEXIST', hint: /several conntrack zones/ });
    socket.close();
    for (const [conntrackZones, address] of [
      [[1], '198.51.100.7'],
      [[2], '198.51.100.8'],
    ] as const) {
      const one = createDatagramSocket({ port: 15053, conntrackZones });
      sendMarked(2, 40053, '198.51.100.8');
      t.match((await nextMessage(one))[1], { kind: 'redirect', destination: { address } });
      one.close();
      await sleep(10);
    }
    const none = createDatagramSocket({ port: 15053, conntrackZones: [0] });
    t.teardown(() => none.close());
    sendMarked(2, 40053, '198.51.100.8');
    t.match(causeOf((await nextMessage(none))[1]), { code: 'ENOENT', hint: /a zone that was not asked for/ });
  });

  t.test('without CAP_NET_ADMIN: unknown, with the remedy', async (t) => {
    const [info, reply, marked] = unprivileged();
    t.match(info, { kind: 'unknown', code: 'EPERM', hint: /CAP_NET_ADMIN .*setpriv/ });
    t.match(reply, { code: 'EPERM', syscall: 'setsockopt', hint: /IP_TRANSPARENT needs/ });
    t.match(marked, { code: 'EPERM', syscall: 'setsockopt', hint: /SO_MARK needs/ });
  });
});
