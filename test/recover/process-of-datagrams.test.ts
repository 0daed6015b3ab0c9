// processOf() of datagrams: the socket that has sent one, where there is no doubt.
import { type ChildProcess, spawn } from 'node:child_process';
import t from 'tap';
import { createDatagramSocket, Namespace, processOf, type ConnectionEnds } from '../../lib/index.ts';
import { kill, line } from '../fixtures/children.ts';
import { defaultRoutes, inNamespace, nft, sh } from '../fixtures/netns.ts';

/** Sends from a port to those destinations, by a socket that is connected or not. `share`: SO_REUSEPORT. */
const SENDER = `
import socket, sys
how, local, source, *destinations = sys.argv[1:]
s = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if "share" in how else socket.SO_REUSEADDR, 1)
s.bind((local, int(source)))
for to in destinations:
  host, port = to.rsplit(" ", 1)
  if "connected" in how: s.connect((host, int(port))); s.send(b"x")
  else: s.sendto(b"x", (host, int(port)))
print(s.getsockname()[1], flush=True)
sys.stdin.read()
`;

await inNamespace(t, import.meta.url, () => {
  defaultRoutes();

  t.test('datagrams: the one socket that has sent', async (t) => {
    const inside = createDatagramSocket({ port: 0 });
    t.teardown(() => inside.close());
    const { port } = inside.address();
    const [nat, own] = [`udp dport 9000-9001 redirect to :${port}`, 'type nat hook output priority -100'];
    nft(
      `add table inet datagrams; add chain inet datagrams out { ${own}; }; add rule inet datagrams out ${nat}`,
    );
    t.teardown(() => sh('nft delete table inet datagrams'));
    const send = async (...args: string[]): Promise<ChildProcess> => {
      const child = spawn('python3', ['-c', SENDER, ...args]);
      t.teardown(() => kill(child));
      await line(child);
      return child;
    };
    /** The sender, and the ends of what has come of each destination that it was told. */
    const sent = async (...args: string[]) => {
      const ends: ConnectionEnds[] = [];
      const all = new Promise<void>((resolve) =>
        inside.on('message', function come(_, { source, destination }) {
          ends.push({ client: source, destination: destination! });
          if (ends.length < args.length - 3) return;
          inside.off('message', come);
          resolve();
        }),
      );
      const child = await send(...args);
      await all;
      return { child, ends };
    };
    const pidOf = (ends: ConnectionEnds | undefined) => processOf(ends!, { protocol: 'udp' })?.pid;

    for (const [how, local, destination] of [
      ['free', '0.0.0.0', '198.51.100.7 9000'],
      ['connected', '0.0.0.0', '198.51.100.7 9000'],
      ['free', '127.0.0.9', '127.0.0.3 9000'],
      ['free', '::', '2001:db8::7 9000'],
      ['connected', '::', '2001:db8::7 9000'],
      ['free', '::', '::ffff:198.51.100.8 9000'],
      ['connected', '::', '::ffff:198.51.100.8 9000'],
    ] as const) {
      const { child, ends } = await sent(how, local, '0', destination);
      t.equal(pidOf(ends[0]), child.pid, `${how} ${local} ${destination}`);
      t.equal(processOf(ends[0]!), undefined, 'it is no connection');
      await kill(child);
      t.equal(pidOf(ends[0]), undefined, 'ended');
    }

    const { child, ends } = await sent('free', '127.0.0.9', '40300', '127.0.0.3 9000');
    await send('free', '127.0.0.8', '40300');
    await send('connected', '127.0.0.9', '40300', '127.0.0.4 7');
    const namespace = await Namespace.create();
    t.teardown(() => namespace.close());
    const other = namespace.spawn('python3', ['-c', SENDER, 'free', '0.0.0.0', '40300', '127.0.0.3 9000']);
    t.teardown(() => kill(other));
    await line(other);
    t.equal(pidOf(ends[0]), child.pid, 'others have that port at another address, to another one, elsewhere');
    t.equal(processOf(ends[0]!, { namespace, protocol: 'udp' }), undefined, 'nothing was redirected there');
    await kill(child);
    t.equal(pidOf(ends[0]), undefined, 'none of them');

    const shared = await sent('share', '0.0.0.0', '40301', '198.51.100.7 9000');
    t.equal(pidOf(shared.ends[0]), shared.child.pid);
    await send('share', '0.0.0.0', '40301');
    t.equal(pidOf(shared.ends[0]), undefined, 'one of two');

    const twice = await sent('free', '0.0.0.0', '40302', '198.51.100.7 9000', '198.51.100.7 9001');
    t.equal(pidOf(twice.ends[0]), twice.child.pid);
    const { client } = twice.ends[1]!;
    t.not(client.port, 40302, 'NAT has given it another port');
    t.equal(pidOf(twice.ends[1]), undefined);
    await send('free', '0.0.0.0', String(client.port));
    t.equal(pidOf(twice.ends[1]), undefined, 'a third one has that very port, and has not sent it');

    const direct = await sent('free', '127.0.0.1', '0', `127.0.0.1 ${port}`);
    t.equal(pidOf(direct.ends[0]), direct.child.pid, 'sent to us, and seen by conntrack');
  });
});
