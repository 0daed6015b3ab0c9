// MPTCP: Node's own servers never speak it, an inherited listening socket may. The kernel does not answer
// SO_ORIGINAL_DST on an MPTCP socket; ctnetlink knows all the same, for those who may ask.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { beliefsExpired, redirectChain, rules } from '../fixtures/connections.ts';
import type { OriginalDst } from '../../lib/index.ts';
import { defaultRoutes, inNamespace } from '../fixtures/netns.ts';
import { startInherited } from '../fixtures/inherited.ts';
import { without } from '../fixtures/unprivileged.ts';

const IPPROTO_MPTCP = 262;
const PORT = 15001;

/** Connects and waits until the server has closed. */
const CONNECT = `
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
client = socket.socket(family, socket.SOCK_STREAM, int(sys.argv[3]))
client.connect((sys.argv[1], int(sys.argv[2])))
client.recv(10)
`;

/** The command that takes the right to ask away. */
const UNPRIVILEGED = without('net_admin', 'net_raw');

async function start(
  t: Test,
  address: string,
  wrapper: string[] = [],
): Promise<(dial: string, port: number, protocol: number) => Promise<unknown>> {
  const program = await startInherited(t, address, PORT, IPPROTO_MPTCP, wrapper);
  let seen = '';
  return async (dial, port, protocol) => {
    const { status, stderr } = spawnSync('python3', ['-c', CONNECT, dial, String(port), String(protocol)], {
      encoding: 'utf8',
    });
    if (status !== 0) throw new Error(stderr);
    const [all, line] = await program.printed(new RegExp(`^listening\\n${seen}(.*)\\n`));
    seen += `.*\\n`;
    t.ok(all);
    return JSON.parse(line!);
  };
}

/**
 * Clients whose connections wait for the server, and stay open when it has become of this process. The second subflow of
 * each comes from 192.0.2.2.
 */
const CLIENTS = `
import subprocess, time
def sh(script):
    return subprocess.run(['sh', '-ec', script], check=True, capture_output=True, text=True).stdout
def until(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError(sh('ss -Htan; ss -HMan; conntrack -L 2>/dev/null'))
def subflows(address):
    return sh(f'ss -Htn state established src 127.0.0.1 and dst {address}').count('15001')
def begin(address, port):
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, ${IPPROTO_MPTCP})
    client.set_inheritable(True)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(('192.0.2.1', port))
    client.setblocking(False)
    client.connect_ex((address, 80))
    return client
def ports(first, last):
    sh(f'echo {first} {last} >/proc/sys/net/ipv4/ip_local_port_range')
def connect(address, port):
    before = subflows('192.0.2.2')
    client = begin(address, port)
    until(lambda: sh(f'ss -Htn state established src 192.0.2.1 and dst {address}'))
    ports(32768, 60999)
    client.send(b'a')
    until(lambda: subflows('192.0.2.2') > before)
    return client
def reset_first(port):
    sh(f'ss -K src 192.0.2.1 and sport = {port}')
    until(lambda: not sh(f'ss -Htn src 127.0.0.1 and dst 192.0.2.1 and dport = {port}'))
def forget(port):
    sh(f'conntrack -D -p tcp --orig-port-src {port} 2>/dev/null')

sh('ip addr add 192.0.2.2/32 dev lo; ip mptcp limits set subflow 4; ip mptcp endpoint add 192.0.2.2 dev lo subflow')

# The first subflow is reset, and a later one of the same connection has its port.
ports(20000, 20000)
a = connect('198.51.100.7', 0)
reset_first(20000)
ports(20000, 20000)
sh('ip mptcp endpoint delete id 0 192.0.2.1; ip mptcp endpoint add 192.0.2.1 dev lo subflow')
until(lambda: subflows('192.0.2.1') == 1)
ports(32768, 60999)

# The first subflow is reset, and another connection has its port.
b = connect('198.51.100.7', 20001)
reset_first(20001)
forget(20001)
c = connect('198.51.100.8', 20001)

# A stranger's SYN comes to the first subflow; the client's RST in answer to the surprise is lost.
d = connect('198.51.100.7', 20002)
forget(20002)
sh("""nft 'table inet lossy {
  chain output {
    type filter hook output priority 0
    tcp sport 20002 tcp flags & rst == rst drop
  }
}'""")
e = begin('198.51.100.9', 20002)
until(lambda: '198.51.100.9' in sh('conntrack -L 2>/dev/null'))

# Nothing has happened, but that all has been said.
f = connect('198.51.100.7', 20003)
f.shutdown(socket.SHUT_WR)
until(lambda: 'CLOSE-WAIT' in sh('ss -HMn src 127.0.0.1'))

# A client that speaks plain TCP to the same listener.
g = socket.create_connection(('198.51.100.10', 80))
g.set_inheritable(True)
`;

const enabled = '/proc/sys/net/mptcp/enabled';
const skip =
  existsSync(enabled) && readFileSync(enabled, 'utf8') === '1\n' ? false : 'no MPTCP in this kernel';

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  for (const wrapper of [[], UNPRIVILEGED]) {
    const name = 'nobody redirects: no conntrack, so the local address is the one dialled';
    await t.test([name, ...wrapper].join(' '), { skip }, async (t) => {
      const connect = await start(t, '0.0.0.0', wrapper);
      t.match(await connect('192.0.2.1', PORT, IPPROTO_MPTCP), {
        kind: 'direct',
        address: '192.0.2.1',
        port: PORT,
      });
    });
  }

  await t.test('redirected', { skip }, async (t) => {
    rules(t, 'inet', redirectChain(PORT));
    beliefsExpired();
    await t.test('to a listener on ::', async (t) => {
      const connect = await start(t, '::');
      for (const address of ['198.51.100.7', '2001:db8:2::7']) {
        t.match(await connect(address, 80, IPPROTO_MPTCP), { kind: 'redirect', address, port: 80 });
        t.match(
          await connect(address, 80, 0),
          { kind: 'redirect', address, port: 80 },
          'a client that speaks plain TCP to the same listener',
        );
      }
    });
    await t.test('an entry counts only while it is sure to be this connection’s', async (t) => {
      const program = await startInherited(t, '0.0.0.0', PORT, IPPROTO_MPTCP, [], CLIENTS);
      const [, lines] = await program.printed(/^listening\n((?:.*\n){6})/);
      const found = lines!
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as OriginalDst)
        .map((dst) => (dst.kind === 'unknown' ? dst.cause.code : `${dst.kind} ${dst.address}`));
      t.same(found, [
        'ENOTCONN',
        'ENOTCONN',
        'redirect 198.51.100.8',
        'EADDRINUSE',
        'redirect 198.51.100.7',
        'redirect 198.51.100.10',
      ]);
    });

    await t.test('to a listener without CAP_NET_ADMIN', async (t) => {
      const connect = await start(t, '::', UNPRIVILEGED);
      t.match(await connect('198.51.100.7', 80, IPPROTO_MPTCP), {
        kind: 'unknown',
        cause: { code: 'EPERM', syscall: 'netlink', hint: /CAP_NET_ADMIN/ },
      });
      t.match(await connect('198.51.100.7', 80, 0), { kind: 'redirect', address: '198.51.100.7' });
    });
  });
});
