// examples/udp-tproxy between clients of this namespace and servers of another one.
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { helloMessage, serverName } from '../fixtures/hellos.ts';
import { inNamespace, nft } from '../fixtures/netns.ts';
import { startProgram } from '../fixtures/program.ts';
import { crypto, datagram } from '../fixtures/quic-packets.ts';
import { connectedClient, internet, nextMessage } from '../fixtures/udp.ts';

const built = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/** Echoes what it gets, with the address that it saw. */
const ECHO = `
const { createSocket } = require('node:dgram');
for (const address of ['198.51.100.7', '198.51.100.8', '2001:db8:2::7']) {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (data, from) => socket.send(address + ' ' + data, from.port, from.address));
  socket.bind(7000, address);
}
console.log('ready');
`;

const RULES = {
  tproxy: `chain output {
      type route hook output priority mangle
      meta mark != 7 udp dport 7000 meta mark set 1
    }
    chain prerouting {
      type filter hook prerouting priority mangle
      meta mark 1 udp dport 7000 tproxy to :15001 accept
    }`,
  redirect: `chain output {
      type nat hook output priority -100
      meta mark != 7 udp dport 7000 redirect to :15001
    }`,
};

/** The first two datagrams of a QUIC client that asks for a name: both are needed. */
function hello(name: string): Buffer[] {
  const message = helloMessage({ extensions: [serverName(name)] });
  return [crypto(40, message.subarray(40)), crypto(0, message.subarray(0, 40))].map((frames, number) =>
    datagram({ number, frames }),
  );
}

await inNamespace(t, import.meta.url, async () => {
  internet(['198.51.100.7/32', '198.51.100.8/32', '2001:db8:2::7/128']);
  await startProgram(t, 'ip', ['netns', 'exec', 'internet', process.execPath, '-e', ECHO], /ready/);

  for (const [kind, rules] of Object.entries(RULES)) {
    await t.test(kind, async (t) => {
      const proxy = await startProgram(
        t,
        process.execPath,
        [
          built('examples/udp-tproxy/main.js'),
          '--mark=7',
          '--timeout=1000',
          '--max-flows=2',
          ...(kind === 'redirect' ? ['--redirect'] : []),
        ],
        /listening/,
      );
      nft(`table inet relay {\n${rules}\n}`);
      t.teardown(() => nft('delete table inet relay'));
      for (const [type, address] of [
        ['udp4', '198.51.100.7'],
        ['udp6', '2001:db8:2::7'],
      ] as const) {
        const client = await connectedClient(type, address, 7000);
        t.teardown(() => client.close());
        for (const text of ['one', '', 'three', 'x'.repeat(20_000)]) {
          client.send(text);
          t.equal(String((await nextMessage(client))[0]), `${address} ${text}`);
        }
        t.ok(await proxy.printed(new RegExp(`\\d → ${address} 7000 \\(${kind}\\)\n`)));
      }
      const third = await connectedClient('udp4', '198.51.100.8', 7000);
      t.teardown(() => third.close());
      third.send('one more');
      t.equal(String((await nextMessage(third))[0]), '198.51.100.8 one more');
      t.ok(await proxy.printed(/→ 198\.51\.100\.7 7000 \(\w+\) made room: sent 4, received 4/));
      t.ok(await proxy.printed(/→ 2001:db8:2::7 7000 \(\w+\) idle: sent 4, received 4/));

      const self = await connectedClient('udp4', '192.0.2.1', 15001);
      t.teardown(() => self.close());
      self.send('to the proxy');
      await sleep(50);
      third.send('again');
      t.equal(String((await nextMessage(third))[0]), '198.51.100.8 again', 'and it goes on');
    });
  }

  await t.test('by the names that QUIC clients ask for', async (t) => {
    const main = built('examples/udp-tproxy/main.js');
    const names = ['--allow-name=*.near.test', '--allow-name=far.test:7000'];
    const proxy = await startProgram(t, process.execPath, [main, '--mark=7', ...names], /listening/);
    nft(`table inet relay {\n${RULES.tproxy}\n}`);
    t.teardown(() => nft('delete table inet relay'));
    for (const [address, name] of [
      ['198.51.100.7', 'a.near.test'],
      ['2001:db8:2::7', 'far.test'],
    ] as const) {
      const client = await connectedClient(address.includes(':') ? 'udp6' : 'udp4', address, 7000);
      t.teardown(() => client.close());
      const sent = hello(name);
      for (const each of sent) client.send(each);
      for (const each of sent)
        t.equal(
          String((await nextMessage(client))[0]),
          `${address} ${String(each)}`,
          `${name}, both datagrams`,
        );
      client.send('what else it says');
      t.equal(String((await nextMessage(client))[0]), `${address} what else it says`);
      t.ok(await proxy.printed(new RegExp(`→ ${address} 7000 \\(tproxy\\) ${name}\n`)));
    }
    for (const [name, datagrams] of [
      ['other.test', [...hello('other.test'), ...hello('far.test')]],
      ['no name', [Buffer.from('no QUIC'), ...hello('far.test')]],
    ] as const) {
      const client = await connectedClient('udp4', '198.51.100.8', 7000);
      t.teardown(() => client.close());
      client.on('message', () => t.fail('an answer'));
      for (const each of datagrams) client.send(each);
      t.ok(await proxy.printed(new RegExp(`→ 198.51.100.8 7000 \\(tproxy\\) ${name} denied: \\w+: deny\n`)));
    }
  });
});
