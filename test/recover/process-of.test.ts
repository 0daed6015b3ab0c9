// processOf(): who has dialled, of both families, behind a redirect, in other namespaces; and nobody else.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer as createNetServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { canonicalAddress } from '../../lib/address.ts';
import { systemError } from '../../lib/errors.ts';
import {
  createServer,
  Namespace,
  processOf,
  type ConnectionEnds,
  type InterceptedSocket,
  type InterceptServer,
  type ProcessOfOptions,
} from '../../lib/index.ts';
import { describeHolder } from '../../lib/recover/proc.ts';
import { annotate } from '../../lib/recover/original-dst.ts';
import { kill, line } from '../fixtures/children.ts';
import { defaultRoutes, inNamespace, nft, sh } from '../fixtures/netns.ts';

/** Dials, says from which port, and does what it is told on its standard input: `end`, `reset`. */
const CLIENT = `
import os, socket, struct, sys
host, port, source = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
s = socket.socket(family)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if source: s.bind(("", source))
s.connect((host, port))
print(s.getsockname()[1], flush=True)
for line in sys.stdin:
  if line == "end\\n": s.close()
  if line == "reset\\n":
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
  print("done", flush=True)
`;

/** Both, and no third party. */
const SERVER_AND_CLIENT = `
import socket, sys
l = socket.socket(); l.bind(("127.0.0.1", 0)); l.listen()
c = socket.create_connection(l.getsockname()); a = l.accept()
print(c.getsockname()[1], l.getsockname()[1], flush=True)
sys.stdin.read()
`;

async function tell(child: ChildProcess, what: string): Promise<void> {
  child.stdin!.write(`${what}\n`);
  await line(child);
}

async function dialled(
  t: Test,
  server: InterceptServer,
  host: string,
  port: number,
  source = 0,
): Promise<{ child: ChildProcess; socket: InterceptedSocket }> {
  const accepted = once(server, 'connection') as Promise<[InterceptedSocket]>;
  const child = spawn('python3', ['-c', CLIENT, host, String(port), String(source)]);
  t.teardown(() => kill(child));
  await line(child);
  const [socket] = await accepted;
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  return { child, socket };
}

function endsOf(socket: Socket): ConnectionEnds {
  const { originalDst } = socket as InterceptedSocket;
  const client = { address: canonicalAddress(socket.remoteAddress!)!, port: socket.remotePort! };
  return { client, destination: originalDst as ConnectionEnds['destination'] };
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

async function listen(t: Test, options = {}): Promise<{ server: InterceptServer; port: number }> {
  const server = createServer({ allowHalfOpen: true, ...options });
  server.listen(0);
  await once(server, 'listening');
  t.teardown(() => void server.close());
  return { server, port: (server.address() as AddressInfo).port };
}

await inNamespace(t, import.meta.url, () => {
  defaultRoutes();

  t.test('of both families, redirected and direct', async (t) => {
    const { server, port } = await listen(t);
    nft(`
      table inet dials {
        chain out {
          type nat hook output priority -100
          tcp dport 443 redirect to :${port}
        }
      }
    `);
    for (const [host, at, kind] of [
      ['198.51.100.7', 443, 'redirect'],
      ['2001:db8::7', 443, 'redirect'],
      ['::ffff:198.51.100.8', 443, 'redirect'],
      ['127.0.0.1', port, 'direct'],
      ['::1', port, 'direct'],
    ] as const) {
      const { child, socket } = await dialled(t, server, host, at);
      t.equal(socket.originalDst.kind, kind, host);
      const cgroup = readFileSync(`/proc/${child.pid}/cgroup`, 'utf8').match(/^0::(.*)$/m)?.[1];
      const expected = {
        pid: child.pid,
        uid: process.geteuid!(),
        command: [/python3$/, '-c', CLIENT, host, String(at), '0'],
        cgroup,
      };
      t.match(processOf(socket), expected);
      t.match(processOf(endsOf(socket)), expected, 'by the two ends');
      await kill(child);
      t.equal(processOf(socket), undefined, 'ended');
      t.equal(processOf(endsOf(socket)), undefined, 'ended, by the two ends');
    }
  });

  t.test('closed, reset, and the same port once more', async (t) => {
    // Nobody reads, so that nobody hears of the RST either.
    const { server, port } = await listen(t, { pauseOnConnect: true });
    const first = await dialled(t, server, '127.0.0.1', port);
    await tell(first.child, 'end');
    t.equal(processOf(first.socket), undefined, 'a process that runs and has closed it');

    const second = await dialled(t, server, '127.0.0.1', port, 40001);
    const ends = endsOf(second.socket);
    t.equal(processOf(second.socket)?.pid, second.child.pid);
    const namespace = Namespace.current();
    t.equal(processOf(second.socket, { namespace })?.pid, second.child.pid);
    namespace.close();
    sh(`mount -t tmpfs none /proc/${second.child.pid}`);
    t.equal(processOf(second.socket), undefined, 'a process that may not be looked at');
    sh(`umount /proc/${second.child.pid}`);
    await tell(second.child, 'reset');
    t.equal(processOf(ends), undefined);
    const third = await dialled(t, server, '127.0.0.1', port, 40001);
    t.same(endsOf(third.socket).client, ends.client);
    t.equal(processOf(second.socket), undefined, 'the connection that was reset is not the next one');
    t.equal(processOf(third.socket)?.pid, third.child.pid);
    third.socket.destroy();
    t.equal(processOf(third.socket), undefined, 'a socket of ours that is closed');
  });

  t.test('sockets that several have: the eldest', async (t) => {
    const { server, port } = await listen(t);
    // More than are remembered.
    for (let i = 0; i < 20; i++) {
      const accepted = once(server, 'connection') as Promise<[InterceptedSocket]>;
      const shell = spawn('bash', ['-c', `exec 3<>/dev/tcp/127.0.0.1/${port}; sleep 60 & sleep 60`], {
        detached: true,
        stdio: 'ignore',
      });
      const [socket] = await accepted;
      socket.on('error', () => {});
      t.equal(processOf(socket)?.pid, shell.pid);
      t.equal(processOf(socket)?.command[0], 'bash', 'and once more, by what is remembered');
      socket.destroy();
      process.kill(-shell.pid!, 'SIGKILL');
      await once(shell, 'exit');
    }
  });

  t.test('a port that NAT has given the client is not its own', async (t) => {
    const { server, port } = await listen(t);
    nft(`add table inet nat_ports; add chain inet nat_ports out { type nat hook output priority -100; };
      add rule inet nat_ports out tcp dport 444 redirect to :${port}`);
    const source = 40100;
    const first = await dialled(t, server, '198.51.100.11', 444, source);
    const second = await dialled(t, server, '198.51.100.12', 444, source);
    const given = second.socket.remotePort!;
    t.not(given, source, 'the two would look alike here');
    t.equal(processOf(first.socket)?.pid, first.child.pid);
    t.equal(processOf(second.socket), undefined);
    const third = await dialled(t, server, '198.51.100.12', 444, given);
    t.equal(processOf(second.socket), undefined, 'a third one has that very port, and is another');
    t.equal(processOf(endsOf(second.socket)), undefined);
    t.equal(third.child.exitCode, null);
    sh('nft delete table inet nat_ports');
  });

  t.test('in another namespace', async (t) => {
    const namespace = await Namespace.create();
    t.teardown(() => namespace.close());
    const child = namespace.spawn('python3', ['-c', SERVER_AND_CLIENT]);
    t.teardown(() => kill(child));
    const [clientPort, serverPort] = (await line(child)).split(' ').map(Number);
    const ends = {
      client: { address: '127.0.0.1', port: clientPort! },
      destination: { address: '127.0.0.1', port: serverPort! },
    };
    t.equal(processOf(ends), undefined, 'it is not here');
    const held = descriptors();
    t.equal(processOf(ends, { namespace })?.pid, child.pid);
    const reversed = { client: ends.destination, destination: ends.client };
    t.equal(processOf(reversed, { namespace })?.pid, child.pid, 'the accepted end is a socket as well');
    const listener = { ...ends, client: { address: '127.0.0.1', port: serverPort! } };
    t.equal(
      processOf({ ...listener, destination: { address: '127.0.0.9', port: 9 } }, { namespace }),
      undefined,
    );
    t.equal(descriptors(), held, 'no socket of it is kept');
    Object.defineProperty(namespace, 'fd', { value: 9999 });
    t.throws(() => processOf(ends, { namespace }), { code: 'EBADF', syscall: 'netlink' });
  });

  t.test('an inode that is another one’s by now', (t) => {
    t.equal(describeHolder(process.pid, 1), undefined);
    t.equal(describeHolder(2 ** 22 + 1, 1), undefined, 'nor is the process there: pid_max is no higher');
    t.end();
  });

  t.test('what is no connection', (t) => {
    const here = { address: '127.0.0.1', port: 1 };
    t.equal(processOf({ client: here, destination: here }), undefined);
    t.equal(processOf({ client: here, destination: { address: '::1', port: 1 } }), undefined, 'two families');
    t.equal(processOf({ client: here, destination: { address: 'fe80::1%nope', port: 1 } }), undefined);
    const bad: [unknown, unknown, string][] = [
      [undefined, {}, 'ERR_INVALID_ARG_TYPE'],
      [{ client: here }, {}, 'ERR_INVALID_ARG_TYPE'],
      [{ client: { address: 'localhost', port: 1 }, destination: here }, {}, 'ERR_INVALID_ARG_TYPE'],
      [{ client: { ...here, port: -1 }, destination: here }, {}, 'ERR_OUT_OF_RANGE'],
      [{ client: here, destination: here }, null, 'ERR_INVALID_ARG_TYPE'],
      [{ client: here, destination: here }, { namespace: 7 }, 'ERR_INVALID_ARG_TYPE'],
      [{ client: here, destination: here }, { protocol: 'sctp' }, 'ERR_OUT_OF_RANGE'],
    ];
    for (const [client, options, code] of bad)
      t.throws(() => processOf(client as ConnectionEnds, options as ProcessOfOptions), { code });
    t.end();
  });

  t.test('TCP: one port, two destinations, and a datagram’s socket at it', async (t) => {
    const [one, two] = [await listen(t), await listen(t)];
    const source = 40400;
    const first = await dialled(t, one.server, '127.0.0.1', one.port, source);
    const second = await dialled(t, two.server, '127.0.0.1', two.port, source);
    const script = `import socket; s = socket.socket(2, 2); s.bind(("127.0.0.1", ${source})); print(1, flush=True); input()`;
    const datagrams = spawn('python3', ['-c', script]);
    t.teardown(() => kill(datagrams));
    await line(datagrams);
    t.equal(processOf(first.socket)?.pid, first.child.pid);
    t.equal(processOf(second.socket)?.pid, second.child.pid);
    const { client } = endsOf(first.socket);
    const nowhere = { client, destination: { address: '127.0.0.1', port: 9 } };
    t.equal(processOf(nowhere), undefined, 'the port alone is not the connection');
  });

  t.test('an accepted socket whose destination is not known', async (t) => {
    const server = createNetServer({ allowHalfOpen: true });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => server.close());
    const { port } = server.address() as AddressInfo;
    const { child, socket } = await dialled(t, server as InterceptServer, '127.0.0.1', port);
    t.equal(processOf(socket)?.pid, child.pid, 'nobody has asked: that which it was accepted at');
    annotate(socket, { kind: 'unknown', cause: systemError(-2, { syscall: 'getsockopt' }) });
    t.equal(processOf(socket), undefined);
  });
});
