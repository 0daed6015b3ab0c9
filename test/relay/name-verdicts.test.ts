// createRelayServer({ inspect }): lasting verdicts are about a destination and what is wanted there.
import { once } from 'node:events';
import { connect } from 'node:net';
import t from 'tap';
import type { FirstBytes, OriginalDst, RelayServer } from '../../lib/index.ts';
import { alpn, ech, hello, serverName } from '../fixtures/hellos.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { relayNetwork, start, until } from '../fixtures/relay-network.ts';
import { readAll } from '../fixtures/relay-world.ts';

const named = (name: string): Buffer => hello({ extensions: [serverName(name)] });
const head = (name: string): Buffer => Buffer.from(`GET / HTTP/1.1\r\nHost: ${name}\r\n\r\n`);

async function say(bytes: Buffer, address = '198.51.100.7'): Promise<string> {
  const socket = connect({ port: 7000, host: address, allowHalfOpen: true }).on('error', () => {});
  socket.end(bytes);
  const { data, end } = await readAll(socket);
  return end === 'fin' && !data.equals(bytes) ? 'other bytes' : end;
}

/** Relays what is for "a…" and resets the rest, for a minute; tells what it was asked about. */
async function asking(): Promise<{ server: RelayServer; asked: () => string[] }> {
  let asked: string[] = [];
  const describe = (destination: OriginalDst, first: FirstBytes | undefined): string => {
    const { address } = destination as { address: string };
    return `${address} ${first?.protocol} ${first?.name ?? '-'}${first?.ech ? ' ech' : ''}`;
  };
  const server = await start({
    mark: 7,
    inspect: { timeout: 60_000 },
    decide: (destination, _client, first) => {
      asked.push(describe(destination, first));
      return { action: first?.name?.startsWith('a') ? 'relay' : 'reset', ttl: 60_000 };
    },
  });
  const take = (): string[] => {
    const taken = asked;
    asked = [];
    return taken;
  };
  return { server, asked: take };
}

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);

  t.test('a neighbour of the same address is asked about by itself', async (t) => {
    const { server, asked } = await asking();
    t.equal(await say(named('a.example')), 'fin');
    t.equal(await say(named('b.example')), 'ECONNRESET');
    t.same(asked(), ['198.51.100.7 tls a.example', '198.51.100.7 tls b.example']);
    for (let i = 0; i < 3; i++) {
      t.equal(await say(named('a.example')), 'fin');
      t.equal(await say(named('A.Example.')), 'fin', 'the same name');
      t.equal(
        await say(hello({ extensions: [alpn('h2'), serverName('a.example')] })),
        'fin',
        'another hello',
      );
      t.equal(await say(named('b.example')), 'ECONNRESET');
    }
    t.same(asked(), [], 'without JavaScript');
    await until(() => server.stats.open === 0);
    t.match(server.stats, { accepted: 14, undecided: 2, relayed: 10, reset: 4, inspecting: 0, open: 0 });

    t.equal(await say(named('a.example'), '192.0.2.2'), 'fin');
    t.equal(await say(head('a.example')), 'fin');
    t.equal(await say(hello({ extensions: [serverName('a.example'), ech] })), 'fin');
    t.equal(await say(hello({ extensions: [] })), 'ECONNRESET');
    t.equal(await say(Buffer.from('SSH-2.0-x\r\n')), 'ECONNRESET');
    t.equal(await say(named('a.exampl')), 'fin');
    t.equal(await say(named('a.examples')), 'fin');
    t.same(
      asked(),
      [
        '192.0.2.2 tls a.example',
        '198.51.100.7 http a.example',
        '198.51.100.7 tls a.example ech',
        '198.51.100.7 tls -',
        '198.51.100.7 other -',
        '198.51.100.7 tls a.exampl',
        '198.51.100.7 tls a.examples',
      ],
      'everything that a policy may go by is part of the key',
    );
    t.equal(await say(hello({ extensions: [] })), 'ECONNRESET');
    t.equal(await say(head('a.example')), 'fin');
    t.same(asked(), []);
    server.destroy();
    await once(server, 'close');
  });

  t.test('revoke', async (t) => {
    const { server, asked } = await asking();
    const all = async (): Promise<string[]> => {
      await say(named('a.example'));
      await say(head('a.example'));
      await say(named('a.example'), '192.0.2.2');
      await say(named('b.example'));
      return asked();
    };
    t.equal((await all()).length, 4);
    t.same(await all(), []);
    server.revoke({ name: 'A.example.' });
    t.same(
      await all(),
      ['198.51.100.7 tls a.example', '198.51.100.7 http a.example', '192.0.2.2 tls a.example'],
      'a name, wherever it is wanted',
    );
    server.revoke({ name: 'example' });
    t.same(await all(), []);
    server.revoke({ address: '198.51.100.7', port: 7000 });
    t.same(
      await all(),
      ['198.51.100.7 tls a.example', '198.51.100.7 http a.example', '198.51.100.7 tls b.example'],
      'a destination, whatever is wanted there',
    );
    server.revoke({ address: '198.51.100.7', port: 7001 });
    t.same(await all(), []);
    server.revoke();
    t.equal((await all()).length, 4);
    t.throws(() => server.revoke({ name: '' }), { code: 'ERR_INVALID_ARG_TYPE' });
    t.throws(() => server.revoke({ name: 1 as never }), { code: 'ERR_INVALID_ARG_TYPE' });
    server.destroy();
    await once(server, 'close');
  });

  t.test('many names at one address, at once', async (t) => {
    const { server, asked } = await asking();
    const names = Array.from({ length: 60 }, (_, i) => `${i % 2 === 0 ? 'a' : 'b'}${i}.example`);
    for (const round of [1, 2]) {
      const answers = await Promise.all(names.map((name) => say(named(name))));
      t.same(
        answers,
        names.map((name) => (name.startsWith('a') ? 'fin' : 'ECONNRESET')),
        `round ${round}`,
      );
    }
    t.equal(asked().length, names.length);
    server.destroy();
    await once(server, 'close');
  });
});
