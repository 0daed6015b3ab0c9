// Link-local addresses mean nothing without their interface: it stays part of every address.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import {
  createServer,
  getOriginalDst,
  type InterceptedSocket,
  type InterceptServer,
} from '../../lib/index.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import { listening, rules } from '../fixtures/connections.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';

const HOST = 'fe80::1';

/** A connection from another host of the link. */
async function fromNeighbour(t: Test, server: InterceptServer, port: number): Promise<InterceptedSocket> {
  const script = `require('node:net').connect(${port}, '${HOST}%there0').on('error', () => {}).resume()`;
  const child = spawn('ip', ['netns', 'exec', 'neighbour', process.execPath, '-e', script], {
    env: unmeasured,
    stdio: 'inherit',
  });
  t.teardown(async () => {
    if (child.exitCode !== null) return;
    const exited = once(child, 'exit');
    child.kill();
    await exited;
  });
  const [socket] = (await once(server, 'connection')) as [InterceptedSocket];
  t.teardown(() => socket.destroy());
  return socket;
}

await inNamespace(t, import.meta.url, async () => {
  sh(`
    ip netns add neighbour
    ip link add here0 type veth peer name there0 netns neighbour
    ip link set here0 addrgenmode none
    ip -n neighbour link set there0 addrgenmode none
    ip addr add ${HOST}/64 dev here0 nodad
    ip -n neighbour addr add fe80::2/64 dev there0 nodad
    ip link set here0 up
    ip -n neighbour link set there0 up
  `);
  const address = `${HOST}%here0`;

  for (const host of ['::', address]) {
    await t.test(`direct without conntrack, to a listener on ${host}`, async (t) => {
      const server = createServer();
      const port = await listening(t, server, { host });
      const socket = await fromNeighbour(t, server, port);
      t.same(socket.originalDst, { kind: 'direct', address, port, family: 'IPv6' });
    });
  }

  for (const host of ['::', address]) {
    await t.test(`redirected, to a listener on ${host}`, async (t) => {
      const server = createServer();
      const port = await listening(t, server, { host });
      rules(
        t,
        'ip6',
        `chain prerouting {
          type nat hook prerouting priority -100
          tcp dport 80 redirect to :${port}
        }`,
      );
      const socket = await fromNeighbour(t, server, 80);
      t.same(socket.originalDst, { kind: 'redirect', address, port: 80, family: 'IPv6' });
      t.same(getOriginalDst(socketFd(socket)!), { address, port: 80, family: 'IPv6' });
      const direct = await fromNeighbour(t, server, port);
      t.same(direct.originalDst, { kind: 'direct', address, port, family: 'IPv6' });
    });
  }

  await t.test('by TPROXY', async (t) => {
    const server = createServer({ transparent: true });
    const port = await listening(t, server);
    rules(
      t,
      'ip6',
      `chain prerouting {
        type filter hook prerouting priority mangle
        tcp dport 80 tproxy to :${port}
      }`,
    );
    const socket = await fromNeighbour(t, server, 80);
    t.same(socket.originalDst, { kind: 'tproxy', address, port: 80, family: 'IPv6' });
  });
});
