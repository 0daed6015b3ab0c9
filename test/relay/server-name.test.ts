// createRelayServer(): verdicts that send a connection to a name.
import { once } from 'node:events';
import { BlockList } from 'node:net';
import t from 'tap';
import {
  NamePolicy,
  type RelayDecision,
  type RelayServerOptions,
  type NamedTarget,
} from '../../lib/index.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { relayNetwork, start, talk } from '../fixtures/relay-network.ts';
import { outcome } from '../fixtures/relay-world.ts';

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);
  // Nobody answers there, not even with RST.
  sh('ip route add 203.0.113.0/24 via 192.0.2.2; ip -n far route add blackhole 203.0.113.0/24');

  const asked: string[] = [];
  const zone: Record<string, string[]> = {
    'one.test': ['192.0.2.2'],
    'both.test': ['2001:db8::2', '192.0.2.2'],
    'half.test': ['203.0.113.9', '2001:db8::2'],
    'closed.test': ['198.51.100.7', '2001:db8::2'],
    'rebound.test': ['127.0.0.1', '::1', '64:ff9b::7f00:1', '169.254.169.254', '0.0.0.0'],
    'mixed.test': ['127.0.0.1', '192.0.2.2'],
    'loop.test': ['192.0.2.1'],
    'nat64.test': ['64:ff9b::c000:202'],
  };
  const resolver = async (name: string): Promise<{ address: string }[]> => {
    asked.push(name);
    const found = zone[name];
    if (!found) throw Object.assign(new Error(`no ${name}`), { code: 'ENOTFOUND' });
    return found.map((address) => ({ address }));
  };

  async function sent(
    to: NamedTarget,
    options: Partial<RelayServerOptions> = {},
    promised = false,
  ): Promise<{ data: string; end: string; outcome: object; stats: object; ms: number }> {
    const verdict: RelayDecision = { action: 'relay', to };
    const server = await start({
      mark: 7,
      resolve: { resolver },
      ...options,
      decide: () => (promised ? Promise.resolve(verdict) : verdict),
    });
    const relayed = once(server, 'relay');
    const began = performance.now();
    const got = await talk('198.51.100.7', 7001, 'words');
    const ms = performance.now() - began;
    const [joined] = await relayed;
    const how = await outcome(joined);
    server.close();
    await once(server, 'close');
    const { refused, relayed: count, failed, open } = server.stats;
    return { ...got, outcome: how, stats: { refused, relayed: count, failed, open }, ms };
  }
  const echoed = {
    data: 'words',
    end: 'fin',
    outcome: { reason: 'end' },
    stats: { refused: {}, relayed: 1, failed: 0, open: 0 },
  };

  t.test('one address, several, one of which does not answer', async (t) => {
    const before = openSockets();
    t.match(await sent({ name: 'one.test', port: 7000 }), echoed);
    t.match(await sent({ name: 'ONE.test.', port: 7000 }, {}, true), echoed);
    t.match(await sent({ name: 'both.test', port: 7002 }), echoed);
    const server = await start({
      resolve: { resolver },
      decide: () => ({ action: 'relay', to: { name: 'both.test' } }),
    });
    t.same(
      await talk('127.0.0.1', 15001, 'x'),
      { data: '', end: 'ECONNRESET' },
      'at the port that was dialled',
    );
    server.close();
    await once(server, 'close');
    const half = await sent({ name: 'half.test', port: 7000 });
    t.match(half, echoed, 'the second answers');
    t.ok(half.ms >= 240, `and has its turn after 250 ms: ${half.ms}`);
    t.match(
      await sent({ name: 'both.test', port: 7000 }, { resolve: { resolver, order: 'ipv4first' } }),
      echoed,
    );
    t.same(await socketsLeft(before), []);
  });

  t.test('what cannot be connected, what is not there', async (t) => {
    t.match(await sent({ name: 'one.test' }), {
      end: 'ECONNRESET',
      outcome: {
        reason: 'error',
        side: 'upstream',
        error: { code: 'ECONNREFUSED', address: '192.0.2.2', port: 7001 },
      },
    });
    t.match(await sent({ name: 'closed.test' }), {
      end: 'ECONNRESET',
      outcome: { reason: 'error', side: 'upstream', error: { code: 'ECONNREFUSED' } },
      stats: { relayed: 1, failed: 1, open: 0 },
    });
    t.match(await sent({ name: 'none.test' }), {
      end: 'ECONNRESET',
      outcome: { reason: 'error', side: 'upstream', error: { code: 'ENOTFOUND' } },
      stats: { refused: { ENOTFOUND: 1 } },
    });
    t.match(await sent({ name: '127.0.0.1' }), { stats: { refused: { ERR_NAME_REFUSED: 1 } } });
  });

  t.test('who owns a name does not choose what is reached', async (t) => {
    t.match(await sent({ name: 'rebound.test', port: 7000 }), {
      end: 'ECONNRESET',
      outcome: { reason: 'error', error: { code: 'ERR_NAME_REFUSED' } },
      stats: { refused: { ERR_NAME_REFUSED: 1 }, relayed: 0 },
    });
    t.match(await sent({ name: 'mixed.test', port: 7000 }), echoed, 'its other address will do');
    t.match(await sent({ name: 'loop.test', port: 15001 }), {
      stats: { refused: { ERR_INTERCEPT_LOOP: 1 } },
    });
    const deny = new BlockList();
    deny.addAddress('192.0.2.2');
    t.match(await sent({ name: 'one.test', port: 7000 }, { egress: { deny } }), {
      stats: { refused: { ERR_EGRESS_DENIED: 1 } },
    });
    t.match(await sent({ name: 'both.test', port: 7000 }, { egress: { deny } }), echoed, 'IPv6 is allowed');
    t.match(await sent({ name: 'nat64.test', port: 7000 }, { egress: { deny } }), {
      stats: { refused: { ERR_EGRESS_DENIED: 1 } },
    });
  });

  t.test('a policy by name', async (t) => {
    const egress = new NamePolicy({ allow: ['one.test:7000', '2001:db8::/32'], deny: ['both.test'] });
    t.match(await sent({ name: 'one.test', port: 7000 }, { egress }), echoed);
    t.match(await sent({ name: 'one.test', port: 7002 }, { egress }), {
      stats: { refused: { ERR_EGRESS_DENIED: 1 } },
    });
    t.match(await sent({ name: 'half.test', port: 7000 }, { egress }), echoed, 'the address that is allowed');
    asked.length = 0;
    t.match(await sent({ name: 'both.test', port: 7000 }, { egress }), {
      stats: { refused: { ERR_EGRESS_DENIED: 1 } },
    });
    t.same(asked, [], 'a name that is denied is not even resolved');
  });

  t.test('from the client’s address', async (t) => {
    const options = { preserveSource: true, transparent: true };
    t.match(await sent({ name: 'both.test', port: 7000 }, options), {
      outcome: { reason: 'end' },
      data: 'words',
    });
    zone['six.test'] = ['2001:db8::2'];
    t.match(await sent({ name: 'six.test', port: 7000 }, options), {
      stats: { refused: { ERR_INVALID_ARG_VALUE: 1 } },
    });
  });
});
