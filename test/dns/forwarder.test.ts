// createDnsForwarder(): what is asked of whom, what is believed, what is answered, and how it ends.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import * as dns from 'dns-packet';
import t from 'tap';
import { NamePolicy, NameTable, SyntheticAddresses } from '../../lib/index.ts';
import { startForwarder as start } from '../fixtures/dns-forwarder.ts';
import { ask, askByTcp, query, response, sayAddress, testResolver } from '../fixtures/dns-resolver.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { until } from '../fixtures/relay-network.ts';

const [REFUSED, NXDOMAIN, SERVFAIL] = [5, 3, 2];

await inNamespace(t, import.meta.url, async () => {
  t.test('asked by UDP and TCP, passed on, learnt', async (t) => {
    const resolver = await testResolver(t, sayAddress);
    const names = new NameTable();
    const { server, at, records } = await start(t, { upstream: resolver, names });
    t.match(await ask(at, query('a7.example.com')), { id: 4660, data: ['192.0.2.7'] });
    t.equal(names.of({ address: '192.0.2.7' }, '127.0.0.1'), 'a7.example.com');
    t.equal(names.of({ address: '192.0.2.7' }, '127.0.0.2'), undefined);
    const several = [1, 2, 3, 4].map((n) => query(`b${n}.example.com`, 'A', { id: n }));
    t.same((await askByTcp(at.port, several)).map(({ id, data }) => [id, ...data]).sort(), [
      [1, '192.0.2.1'],
      [2, '192.0.2.2'],
      [3, '192.0.2.3'],
      [4, '192.0.2.4'],
    ]);
    t.equal(resolver.connections.length, 1);
    t.equal(names.of({ address: '192.0.2.3' }, '127.0.0.1'), 'b3.example.com');
    t.match(records[0], {
      question: { name: 'a7.example.com', type: 'A' },
      client: { address: '127.0.0.1' },
      destination: { kind: 'direct', port: at.port },
      outcome: 'forwarded',
    });
    t.match(server.stats, { forwarded: 5, failed: 0 });
    t.not(resolver.asked[0]!.id, 4660, 'with an id of its own');
    await ask(at, query('a8.example.com'));
    t.not(resolver.ports[0], resolver.ports[1], 'from another port each time');
  });

  t.test('the question alone leaves the host', async (t) => {
    const resolver = await testResolver(t, sayAddress);
    const { at } = await start(t, { upstream: resolver });
    const option = { code: 65001, data: Buffer.from('secret') };
    const opt = { name: '.', type: 'OPT', udpPayloadSize: 4096, flags: dns.DNSSEC_OK, options: [option] };
    const extra = { type: 'TXT', name: 'secret.example.com', data: 'secret' };
    await ask(at, query('Example.com', 'TYPE257', { additionals: [opt, extra] as unknown as dns.Answer[] }));
    await ask(at, query('a1.example.com'));
    const [first, second] = resolver.asked;
    t.match(first!.questions, [{ name: 'Example.com' }]);
    t.match(first!.additionals, [{ type: 'OPT', udpPayloadSize: 4096, flag_do: true, options: [] }]);
    t.equal(first!.additionals!.length, 1);
    t.same(second!.additionals, [], 'no EDNS where the client has none');
    t.equal(first!.flags! & dns.RECURSION_DESIRED, dns.RECURSION_DESIRED);
  });

  t.test('what is not the answer is not believed', async (t) => {
    const forged = { type: 'A' as const, name: 'a9.example.com', ttl: 60, data: '203.0.113.66' };
    const elsewhere = createSocket('udp4');
    t.teardown(() => elsewhere.close());
    const resolver = await testResolver(t, (asked, raw, way) => {
      if (way === 'udp') elsewhere.send(response(asked, [forged]), resolver.last!.port, '127.0.0.1');
      const otherId = response({ ...asked, id: asked.id! ^ 1 } as dns.DecodedPacket, [forged]);
      const otherName = response(asked, [forged], { questions: [{ type: 'A', name: 'a8.example.com' }] });
      const otherType = response(asked, [forged], { questions: [{ type: 'AAAA', name: 'a9.example.com' }] });
      const two = response(asked, [forged], { questions: [asked.questions![0]!, asked.questions![0]!] });
      const none = response(asked, [forged], { questions: [] });
      const [right] = sayAddress(asked, raw, way);
      return [
        otherId,
        otherName,
        otherType,
        two,
        none,
        raw,
        right!.subarray(0, 20),
        Buffer.from('x'),
        right!,
      ];
    });
    const names = new NameTable();
    const { at } = await start(t, { upstream: resolver, names });
    t.match(await ask(at, query('a9.example.com')), { data: ['192.0.2.9'] });
    t.match(await askByTcp(at.port, [query('a9.example.com')]), [{ data: ['192.0.2.9'] }]);
    t.equal(names.of({ address: '203.0.113.66' }, '127.0.0.1'), undefined);
  });

  t.test('only allowed names leave the host', async (t) => {
    const resolver = await testResolver(t, sayAddress);
    const policy = new NamePolicy({ allow: ['*.example.com:443', 'example.org'], deny: ['bad.example.com'] });
    for (const [denied, rcode, outcome] of [
      [undefined, REFUSED, 'refused'],
      ['nxdomain', NXDOMAIN, 'nxdomain'],
    ] as const) {
      const { at, records } = await start(t, { upstream: resolver, policy, ...(denied ? { denied } : {}) });
      t.match(await ask(at, query('A1.Example.com')), { rcode: 0 });
      t.match(await ask(at, query('_8443._https.example.org', 'SVCB')), { rcode: 0 });
      resolver.asked.length = 0;
      for (const name of [
        'bad.example.com',
        'secret.elsewhere.net',
        'example.com',
        '',
        'a b.example.com',
        '10.0.0.1',
      ])
        t.match(await ask(at, query(name)), { rcode, data: [] }, name);
      t.match(await askByTcp(at.port, [query('bad.example.com')]), [{ rcode }]);
      t.same(resolver.asked, []);
      t.ok(records.slice(2).every((record) => record.outcome === outcome));
    }
  });

  t.test('a policy that answers', async (t) => {
    const many = Array.from({ length: 100 }, (_, i) => `10.0.0.${i}`);
    const verdicts: Record<string, unknown> = {
      'own.test': { addresses: ['10.0.0.1', '::ffff:10.0.0.2', '2001:DB8::1'], ttl: 4001 },
      'many.test': Promise.resolve({ addresses: many }),
      'no.test': 'refuse',
      'gone.test': Promise.resolve('nxdomain'),
      'typo.test': 'forwad',
      'bad.test': { addresses: ['nowhere'] },
      'worse.test': { addresses: [5] },
      'ttl.test': { addresses: [], ttl: -1 },
    };
    const { server, at, errors } = await start(t, {
      upstream: { address: '127.0.0.1' },
      policy: ({ name }, client, destination) => {
        t.match([client, destination], [{ address: '127.0.0.1' }, { kind: 'direct' }]);
        if (name === 'throws.test') throw new Error('no idea');
        return verdicts[name] as 'forward';
      },
    });
    t.match(await ask(at, query('own.test')), {
      rcode: 0,
      data: ['10.0.0.1', '10.0.0.2'],
      packet: { answers: [{ ttl: 5 }] },
    });
    t.match(await ask(at, query('own.test', 'AAAA')), { data: ['2001:db8::1'], packet: { additionals: [] } });
    t.match(await ask(at, query('own.test', 'MX')), { rcode: 0, data: [] });
    const cut = await ask(at, query('many.test'));
    t.match(cut, { data: [], packet: { flag_tc: true } }, 'longer than 512 bytes');
    t.equal((await askByTcp(at.port, [query('many.test')]))[0]!.data.length, 100);
    const opt = [
      { name: '.', type: 'OPT', udpPayloadSize: 4096, flags: 0, options: [] },
    ] as unknown as dns.Answer[];
    const roomy = await ask(at, query('many.test', 'A', { additionals: opt }));
    t.equal(roomy!.data.length, 100);
    t.match(roomy!.packet.additionals, [{ type: 'OPT' }]);
    t.match(await ask(at, query('no.test')), { rcode: REFUSED });
    t.match(await ask(at, query('gone.test')), { rcode: NXDOMAIN });
    for (const name of ['typo', 'bad', 'worse', 'ttl', 'throws', 'nothing'])
      t.match(await ask(at, query(`${name}.test`)), { rcode: SERVFAIL }, name);
    t.equal(errors.length, 6);
    t.match(server.stats, { answered: 6, refused: 1, nxdomain: 1, failed: 6 });
  });

  t.test('synthetic addresses', async (t) => {
    const resolver = await testResolver(t, sayAddress);
    const synthetic = new SyntheticAddresses({ ipv4: '198.18.0.0/30' });
    const names = new NameTable({ synthetic });
    const policy = new NamePolicy({ deny: ['bad.test'] });
    const { at } = await start(t, { upstream: resolver, names, policy });
    t.match(await ask(at, query('a.test')), { data: ['198.18.0.1'] });
    t.match(await ask(at, query('b.test', 'AAAA')), { data: ['fd64:6e73:6e61:6d65::2'] });
    t.match(await ask(at, query('A.test')), { data: ['198.18.0.1'] });
    t.match(await ask(at, query('a.test', 'UNKNOWN_65')), { rcode: 0, data: [] });
    t.match(await ask(at, query('bad.test')), { rcode: REFUSED });
    t.match(await ask(at, query('c.test')), { rcode: SERVFAIL }, 'no address is left');
    t.match(await ask(at, query('no name')), { rcode: REFUSED });
    const open = await start(t, { upstream: resolver, names });
    t.match(
      await ask(open.at, query('no name')),
      { rcode: SERVFAIL },
      'nor is there one for what is no name',
    );
    t.same(resolver.asked, []);
    t.match(await ask(at, query('a.test', 'TXT')), { rcode: 0 });
    t.equal(resolver.asked.length, 1);
    t.equal(names.of({ address: '198.18.0.2' }, '10.0.0.9'), 'b.test');
  });

  t.test('no answer from the resolver', async (t) => {
    const silent = await testResolver(t, () => []);
    const { at, server } = await start(t, { upstream: silent, timeout: 100 });
    t.match(await ask(at, query('a.test')), { rcode: SERVFAIL, id: 4660 });
    t.match(await askByTcp(at.port, [query('a.test'), query('b.test')]), [
      { rcode: SERVFAIL },
      { rcode: SERVFAIL },
    ]);
    t.equal(server.stats.failed, 3);
    const nowhere = await start(t, { upstream: { address: '192.0.2.99' } });
    t.match(await ask(nowhere.at, query('a.test')), { rcode: SERVFAIL }, 'no route');
    const six = await start(t, { upstream: { address: '2001:db8::99' } });
    t.match(await ask(six.at, query('a.test')), { rcode: SERVFAIL }, 'nor of IPv6');
    t.match(await askByTcp(nowhere.at.port, [query('a.test')]), [{ rcode: SERVFAIL }]);
    const rude = await testResolver(t, () => {
      rude.connections.at(-1)?.end();
      return [];
    });
    const other = await start(t, { upstream: rude });
    t.match(
      await askByTcp(other.at.port, [query('a.test')]),
      [{ rcode: SERVFAIL }],
      'FIN in place of an answer',
    );
  });

  t.test('what is no question', async (t) => {
    const resolver = await testResolver(t, sayAddress);
    const { at, server } = await start(t, { upstream: resolver });
    const good = query('a.test');
    const label = Buffer.from('\x07a.b.com\x00', 'latin1');
    const dotted = Buffer.concat([good.subarray(0, 12), label, good.subarray(-4)]);
    const binary = Buffer.concat([
      good.subarray(0, 12),
      Buffer.from('\x02\xff\xfe\x00', 'latin1'),
      good.subarray(-4),
    ]);
    const two = query('a.test', 'A', {
      questions: [
        { type: 'A', name: 'a.test' },
        { type: 'A', name: 'b.test' },
      ],
    });
    const compressed = Buffer.concat([good.subarray(0, 12), Buffer.from([0xc0, 0x0c]), good.subarray(-4)]);
    for (const [what, message, rcode] of [
      ['cut', good.subarray(0, -3), 1],
      ['no question', query('a.test', 'A', { questions: [] }), 1],
      ['two questions', two, 1],
      ['a dot inside a label', dotted, 1],
      ['no UTF-8', binary, 1],
      ['compressed', compressed, 1],
      ['long', Buffer.concat([good, Buffer.alloc(2000)]), 1],
      ['AXFR', query('a.test', 'AXFR'), REFUSED],
      ['IXFR', query('a.test', 'IXFR'), REFUSED],
      ['CHAOS', query('a.test', 'A', { questions: [{ type: 'A', name: 'a.test', class: 'CH' }] }), REFUSED],
      ['UPDATE', query('a.test', 'A', { flags: 0x2800 }), REFUSED],
    ] as const) {
      const socket = createSocket('udp4');
      socket.send(message, at.port, at.address);
      const [header] = (await once(socket, 'message')) as [Buffer];
      t.same([header.length, header.readUInt16BE(), header[3]], [12, message.readUInt16BE(), rcode], what);
      socket.close();
    }
    for (const [what, message] of [
      ['short', good.subarray(0, 11)],
      ['an answer', dns.encode({ type: 'response', questions: [{ type: 'A', name: 'a.test' }] })],
    ] as const) {
      t.equal(await ask(at, message, 100), undefined, what);
    }
    t.same(await askByTcp(at.port, [good.subarray(0, 5)]), []);
    t.same(resolver.asked, []);
    t.equal(server.stats.malformed, 14);
  });

  t.test('more than it will do at a time', async (t) => {
    const waiting: ((verdict: 'refuse') => void)[] = [];
    const { at, server } = await start(t, {
      upstream: { address: '127.0.0.1' },
      policy: () => new Promise((resolve) => waiting.push(resolve)),
    });
    const one = createSocket('udp4');
    t.teardown(() => one.close());
    let answered = 0;
    one.on('message', () => answered++);
    for (let i = 0; i < 300; i++) {
      one.send(query('a.test'), at.port, at.address);
      if (i % 20 === 19) await until(() => waiting.length + server.stats.dropped === i + 1);
    }
    t.match([waiting.length, server.stats.dropped], [256, 44]);
    const other = ask(at, query('b.test'), 3000, '127.0.0.2');
    await until(() => waiting.length === 257);
    t.equal(waiting.length, 257, 'another client has room of its own');
    for (const resolve of waiting.splice(0)) resolve('refuse');
    t.match(await other, { rcode: REFUSED });
    await until(() => server.stats.refused === 257 && answered > 0);
    t.ok(answered > 0);

    const all = askByTcp(
      at.port,
      Array.from({ length: 200 }, (_, id) => query('a.test', 'A', { id })),
    );
    let most = 0;
    while (server.stats.refused < 457) {
      await until(() => waiting.length > 0 || server.stats.refused === 457);
      most = Math.max(most, waiting.length);
      for (const resolve of waiting.splice(0)) resolve('refuse');
    }
    t.equal((await all).length, 200);
    t.ok(most <= 64, `${most} of one connection at a time`);
  });

  t.test('behind rules: the resolver that was meant', async (t) => {
    sh('ip addr add 192.0.2.53/32 dev lo');
    const resolver = await testResolver(t, sayAddress, '192.0.2.53', 53);
    const { at, records } = await start(t, { upstream: 'original', mark: 7 });
    nft(`table inet t {
    chain o {
      type nat hook output priority -100
      meta mark != 7 meta l4proto { tcp, udp } th dport 53 redirect to :${at.port}
    }
    }`);
    t.teardown(() => nft('delete table inet t'));
    t.match(await ask(resolver, query('a5.test'), 3000, '192.0.2.53'), { data: ['192.0.2.5'] });
    t.match(records[0], {
      destination: { kind: 'redirect', address: '192.0.2.53', port: 53 },
      outcome: 'forwarded',
    });
    t.match(await askByTcp(53, [query('a6.test')], true, '192.0.2.53'), [{ data: ['192.0.2.6'] }]);
    t.match(await ask(at, query('a5.test')), { rcode: REFUSED }, 'of this server itself');
    t.match(await askByTcp(at.port, [query('a5.test')]), [{ rcode: REFUSED }]);

    // The entry is in a zone that is not asked for.
    const lost = await start(t, { upstream: 'original', conntrackZones: [9], mark: 7 });
    nft(`delete table inet t
    table inet t {
    chain o {
      type nat hook output priority -100
      meta mark != 7 udp dport 53 redirect to :${lost.at.port}
    }
    }`);
    t.match(await ask(resolver, query('a5.test'), 3000, '192.0.2.53'), { rcode: SERVFAIL });
    t.match(lost.records, [{ destination: { kind: 'unknown' }, outcome: 'failed' }]);
  });
});
