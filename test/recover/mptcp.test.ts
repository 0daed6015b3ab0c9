// MPTCP: Node's own servers never speak it, an inherited listening socket may. The kernel does not answer
// SO_ORIGINAL_DST on an MPTCP socket; ctnetlink knows all the same, for those who may ask.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { beliefsExpired, redirectChain, rules } from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace } from '../fixtures/netns.ts';
import { startInherited } from '../fixtures/inherited.ts';

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
const UNPRIVILEGED = ['setpriv', '--bounding-set=-net_admin,-net_raw', '--inh-caps=-net_admin,-net_raw'];

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
    for (const [listen, ...dial] of [
      ['0.0.0.0', '198.51.100.7'],
      ['::', '198.51.100.7', '2001:db8:2::7'],
    ] as const) {
      await t.test(`to a listener on ${listen}`, async (t) => {
        const connect = await start(t, listen);
        for (const address of dial) {
          t.match(await connect(address, 80, IPPROTO_MPTCP), { kind: 'redirect', address, port: 80 });
          t.match(
            await connect(address, 80, 0),
            { kind: 'redirect', address, port: 80 },
            'a client that speaks plain TCP to the same listener',
          );
        }
      });
    }
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
