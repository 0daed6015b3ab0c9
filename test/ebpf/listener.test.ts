// attachListener(): connections and datagrams to many ports and addresses come to one socket.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createNetServer } from 'node:net';
import t from 'tap';
import { attachListener } from '../../lib/ebpf/index.ts';
import { createDatagramSocket, createRelayServer, createServer } from '../../lib/index.ts';
import { inCaptureNamespace, limited, startClient } from '../fixtures/captured.ts';
import { startTelling } from '../fixtures/capture-server.ts';
import { sh } from '../fixtures/netns.ts';

await inCaptureNamespace(
  t,
  import.meta.url,
  async (t) => {
    sh('ip addr add 192.0.2.1/32 dev lo; ip -6 addr add 2001:db8::1/128 dev lo nodad');
    t.teardown(() => sh('ip addr del 192.0.2.1/32 dev lo; ip -6 addr del 2001:db8::1/128 dev lo'));
    const client = startClient(t);
    const refused = { error: 'ECONNREFUSED' };
    const told = (address: string, port: number) => ({ kind: 'tproxy', address, port });
    const dial = (address: string, port: number): string => `answer = ask(dial('${address}', ${port}))`;

    await t.test('TCP', async (t) => {
      const server = await startTelling(t, 15006);
      const other = createNetServer((socket) => socket.on('error', () => {}).end('"the other"\n'));
      await new Promise<void>((resolve) => other.listen(8081, '::', resolve));
      t.teardown(() => other.close());
      t.match(await client(dial('192.0.2.1', 443)), refused);
      const listener = attachListener({ ports: [443, '8000-8999'], tcp: server });
      for (const [address, port] of [
        ['192.0.2.1', 443],
        ['192.0.2.1', 8000],
        ['127.0.0.1', 8999],
        ['2001:db8::1', 443],
      ] as const) {
        t.match(await client(dial(address, port)), told(address, port), `${address}:${port}`);
      }
      t.match(await client(dial('192.0.2.1', 9000)), refused, 'a port that is not listed');
      t.match(await client(dial('192.0.2.1', 8081)), told('192.0.2.1', 8081), 'ahead of who listens there');
      t.same(listener.stats, { led: 5 });
      sh('ip route add local 198.51.100.0/24 dev lo');
      t.teardown(() => sh('ip route del local 198.51.100.0/24 dev lo'));
      t.match(await client(dial('198.51.100.77', 443)), told('198.51.100.77', 443), 'AnyIP');
      t.match(await client(dial('198.51.100.77', 15006)), told('198.51.100.77', 15006), 'at its own port');
      const more = Array.from({ length: 15 }, () => attachListener({ ports: [9], tcp: server }));
      t.throws(() => attachListener({ ports: [9], tcp: server }), {
        code: 'EMFILE',
        syscall: 'bpf',
        hint: /16 at a time/,
      });
      for (const one of more) one.close();
      const local = createNetServer();
      await new Promise<void>((resolve) => local.listen(`\0original-dst-${process.pid}`, resolve));
      t.throws(() => attachListener({ ports: [9], tcp: local }), { code: 'ERR_INVALID_ARG_TYPE' });
      local.close();
      listener.close();
      listener.close();
      t.match(await client(dial('192.0.2.1', 443)), refused);
      t.equal(await client(dial('192.0.2.1', 8081)), 'the other');
      t.same(listener.stats, { led: 6 });
    });

    // Only root may enter the namespace of a client from outside.
    if (!limited) {
      await t.test('all that comes in by an interface', async (t) => {
        sh(`
          ip netns add outside
          ip link add inside type veth peer name eth0 netns outside
          ip addr add 10.9.0.1/24 dev inside
          ip -6 addr add 2001:db8:9::1/64 dev inside nodad
          ip link set inside up
          ip -n outside addr add 10.9.0.2/24 dev eth0
          ip -n outside -6 addr add 2001:db8:9::2/64 dev eth0 nodad
          ip -n outside link set eth0 up
          ip -n outside route add default via 10.9.0.1
          ip -n outside -6 route add default via 2001:db8:9::1
          for family in -4 -6; do
            ip $family rule add iif inside lookup 77
            ip $family route add local default dev lo table 77
          done`);
        t.teardown(() => sh('ip rule del iif inside; ip -6 rule del iif inside; ip netns del outside'));
        const server = await startTelling(t, 15009, { transparent: true });
        await using listener = attachListener({ ports: [443], tcp: server });
        const outside = startClient(t, { wrapper: ['ip', 'netns', 'exec', 'outside'] });
        for (const address of ['93.184.216.34', '2606:2800:220:1::1'])
          t.match(await outside(dial(address, 443)), told(address, 443), address);
        t.equal(listener.stats.led, 2);
      });
    }

    await t.test('killed: nobody is led to it any more', async (t) => {
      const library = (path: string): string => new URL(`../../lib/${path}`, import.meta.url).href;
      const program = `
import { createServer } from '${library('index.js')}';
import { attachListener } from '${library('ebpf/index.js')}';
const server = createServer((socket) => socket.end('1'));
server.listen(15008, '::', () => {
  attachListener({ ports: [444], tcp: server });
  console.log('attached');
});`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const exited = once(child, 'exit');
      t.teardown(() => child.kill('SIGKILL'));
      await Promise.race([once(child.stdout, 'data'), exited]);
      t.equal(await client(dial('192.0.2.1', 444)), 1);
      child.kill('SIGKILL');
      await exited;
      t.match(await client(dial('192.0.2.1', 444)), refused);
    });

    await t.test('a relay server, some addresses alone', async (t) => {
      const seen: unknown[] = [];
      const server = createRelayServer({
        decide: (destination) => {
          seen.push(destination);
          return 'reset';
        },
      });
      const attach = () =>
        attachListener({ ports: [443], addresses: ['192.0.2.0/24', '2001:db8::1'], tcp: server });
      t.throws(attach, { code: 'ERR_SERVER_NOT_RUNNING' });
      await once(server.listen(15006), 'listening');
      await using listener = attach();
      for (const address of ['192.0.2.1', '2001:db8::1'])
        t.match(await client(`answer = dial('${address}', 443).recv(1).decode()`), { error: 'ECONNRESET' });
      t.match(seen, [told('192.0.2.1', 443), told('2001:db8::1', 443)]);
      t.match(await client(dial('127.0.0.1', 443)), refused);
      t.equal(listener.stats.led, 2);
      await server[Symbol.asyncDispose]();
      t.throws(attach, { code: 'ERR_SERVER_NOT_RUNNING' });
    });

    await t.test('UDP, beside TCP', async (t) => {
      const socket = createDatagramSocket({ port: 15006 });
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(15007, '::', resolve));
      t.teardown(() => server.close());
      socket.on('message', (_, info) => {
        const { address, port } = info.destination!;
        socket.reply(`${info.kind} ${address} ${port}`, info);
      });
      await using listener = attachListener({ ports: [5353], udp: socket, tcp: server });
      for (const address of ['192.0.2.1', '2001:db8::1'])
        t.equal(
          await client(
            `s = dial('${address}', 5353, socket.SOCK_DGRAM); s.send(b'q'); answer = s.recv(99).decode()`,
          ),
          `tproxy ${address} 5353`,
        );
      t.equal(listener.stats.led, 2);
      socket.close();
      t.throws(() => attachListener({ ports: [5353], udp: socket }), {
        code: 'ERR_SERVER_NOT_RUNNING',
        hint: /listening/,
      });
    });
  },
  { limited: true },
);
