// createRelayServer(): verdicts that send a connection to another place than the one that its client dialled.
import { once } from 'node:events';
import { BlockList } from 'node:net';
import t from 'tap';
import {
  NamePolicy,
  type RelayDecision,
  type RelayServerOptions,
  type RelayTarget,
  type RoutedVerdict,
} from '../../lib/index.ts';
import { NameResolver } from '../../lib/dial/name-resolver.ts';
import { hasNames } from '../../lib/relay/by-name.ts';
import { readDecision } from '../../lib/relay/decision.ts';
import { here } from '../../lib/recover/place.ts';
import { resolveTarget, whereTo } from '../../lib/relay/target.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { relayNetwork, start, talk } from '../fixtures/relay-network.ts';
import { outcome } from '../fixtures/relay-world.ts';

t.test('what can be read as such a verdict', (t) => {
  t.same(readDecision({ action: 'relay', to: { address: '192.0.2.2' } }), {
    action: 'relay',
    ttl: 0,
    to: { address: '192.0.2.2' },
  });
  for (const [bad, code] of [
    [{ action: 'relay', to: 'example.com' }, 'ERR_INVALID_ARG_TYPE'],
    [{ action: 'relay', to: null }, 'ERR_INVALID_ARG_TYPE'],
    [{ action: 'relay', to: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{ action: 'relay', to: { name: 5 } }, 'ERR_INVALID_ARG_TYPE'],
    [{ action: 'relay', to: { address: '192.0.2.256' } }, 'ERR_INVALID_ARG_TYPE'],
    [{ action: 'relay', to: { address: '192.0.2.2', port: 0 } }, 'ERR_OUT_OF_RANGE'],
    [{ action: 'relay', to: { address: '192.0.2.2' }, ttl: -5 }, 'ERR_OUT_OF_RANGE'],
    [{ action: 'relay', to: [] }, 'ERR_OUT_OF_RANGE'],
    [
      { action: 'relay', to: Array.from({ length: 17 }, () => ({ address: '192.0.2.2' })) },
      'ERR_OUT_OF_RANGE',
    ],
    [{ action: 'relay', to: [{ address: '192.0.2.2' }, {}] }, 'ERR_INVALID_ARG_TYPE'],
    [{ action: 'reset', to: { address: '192.0.2.2' } }, 'ERR_INVALID_ARG_VALUE'],
  ] as const) {
    t.throws(() => readDecision(bad), { code }, JSON.stringify(bad));
  }
  t.end();
});

await t.test('where a client is dialled on', async (t) => {
  const client = { address: '192.0.2.9', port: 40000, family: 'IPv4' } as const;
  const unknown = { kind: 'unknown', cause: new Error('nobody knows') } as const;
  const question = { destination: unknown, client, first: undefined };
  t.match(whereTo(question, undefined, {}, here()), { code: 'ERR_UNKNOWN_DESTINATION' });
  t.match(
    whereTo(question, { address: '192.0.2.2' }, {}, here()),
    { code: 'ERR_UNKNOWN_DESTINATION' },
    'its port is not known either',
  );
  t.same(whereTo(question, { address: '::ffff:192.0.2.2', port: 80 }, {}, here()), [
    { address: '192.0.2.2', port: 80, family: 'IPv4', turn: 0 },
  ]);
  t.equal(hasNames(undefined as never), false, 'what is no decision names nobody');
  const resolver = new NameResolver({ resolver: async () => [{ address: '192.0.2.2' }] });
  const egress = new NamePolicy({ deny: ['a.test'] });
  for (const [bad, code] of [
    [{ name: 5 }, 'ERR_INVALID_ARG_TYPE'],
    [{ name: 'a.test', address: '192.0.2.2' }, 'ERR_INVALID_ARG_TYPE'],
    [{ name: 'a.test', port: 0 }, 'ERR_OUT_OF_RANGE'],
  ] as const) {
    await t.rejects(resolveTarget(bad as never, unknown, resolver, egress), { code }, JSON.stringify(bad));
  }
  const named = await resolveTarget({ name: 'a.test' }, unknown, resolver, egress);
  t.match(whereTo(question, named, {}, here()), { code: 'ERR_UNKNOWN_DESTINATION' });
  const known = await resolveTarget({ name: 'b.test', port: 80 }, unknown, resolver, egress);
  t.match(whereTo(question, known, {}, here()), [{ address: '192.0.2.2', port: 80 }]);
  t.match(whereTo(question, { address: '2001:db8::2', port: 80 }, { preserveSource: true }, here()), {
    code: 'ERR_INVALID_ARG_VALUE',
  });
});

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);

  /** What a client of 198.51.100.7, port 7001, where nobody listens, gets when it is sent there. */
  async function sent(
    to: RelayTarget | RelayTarget[],
    options: Partial<RelayServerOptions> = {},
    answer: (verdict: RoutedVerdict) => RelayDecision | Promise<RelayDecision> = (verdict) => verdict,
  ): Promise<{ data: string; end: string; outcome: object; refused: object }> {
    const server = await start({ mark: 7, ...options, decide: () => answer({ action: 'relay', to }) });
    const relayed = once(server, 'relay');
    const got = await talk('198.51.100.7', 7001, 'words');
    const [joined, destination] = await relayed;
    t.match(destination, { address: '198.51.100.7', port: 7001 }, 'it is told where the client was going');
    const how = await outcome(joined);
    const { refused } = server.stats;
    server.destroy();
    await once(server, 'close');
    return { ...got, outcome: how, refused };
  }
  const echoed = { data: 'words', end: 'fin', outcome: { reason: 'end' }, refused: {} };

  t.test('to another address and port, of either family, at once or later', async (t) => {
    t.same(await sent({ address: '192.0.2.2', port: 7000 }), echoed);
    t.same(await sent({ address: '2001:db8::2', port: 7002 }), echoed);
    t.same(await sent({ address: '::ffff:192.0.2.2', port: 7002 }, {}, async (verdict) => verdict), echoed);
    t.match(
      await sent({ address: '192.0.2.2' }),
      { end: 'ECONNRESET', outcome: { error: { code: 'ECONNREFUSED', address: '192.0.2.2', port: 7001 } } },
      'at the port that the client dialled, if no other is named',
    );
  });

  t.test('to the first of several that can be connected, each judged by itself', async (t) => {
    const deny = new BlockList();
    deny.addAddress('2001:db8::2', 'ipv6');
    const denied = { address: '2001:db8::2', port: 7000 };
    const egress = { deny };
    const dead = { address: '192.0.2.2', port: 7009 };
    t.same(await sent([denied, dead, { address: '192.0.2.2', port: 7000 }], { egress }), echoed);
    const none = await sent([denied, dead], { egress });
    t.match(none, {
      end: 'ECONNRESET',
      outcome: { error: { code: 'ECONNREFUSED', port: 7009 } },
      refused: {},
    });
    const { cause } = (none.outcome as { error: { cause: AggregateError } }).error;
    t.match(cause.errors, [{ code: 'ERR_EGRESS_DENIED' }], 'what was denied was not dialled');
    t.equal(cause.errors.length, 1);
    t.match(await sent([denied, { ...denied, port: 7002 }], { egress }), {
      outcome: { error: { code: 'ERR_EGRESS_DENIED' } },
      refused: { ERR_EGRESS_DENIED: 1 },
    });
  });

  t.test('the egress policy and the loop guard judge the place that is dialled', async (t) => {
    const deny = new BlockList();
    deny.addAddress('192.0.2.2');
    t.match(await sent({ address: '192.0.2.2', port: 7000 }, { egress: { deny } }), {
      end: 'ECONNRESET',
      outcome: { reason: 'error', side: 'upstream', error: { code: 'ERR_EGRESS_DENIED' } },
      refused: { ERR_EGRESS_DENIED: 1 },
    });
    deny.addAddress('198.51.100.7');
    t.same(await sent({ address: '2001:db8::2', port: 7000 }, { egress: { deny } }), echoed);
    for (const address of ['127.0.0.1', '::1', '0.0.0.0', '192.0.2.1']) {
      t.match(await sent({ address, port: 15001 }), { refused: { ERR_INTERCEPT_LOOP: 1 } }, address);
    }
  });
});
