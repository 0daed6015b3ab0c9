// Plans: tables, DNS, hairpins, prefixes, the sidecar preset.
import t from 'tap';
import { draining, planRules, sidecar, toNftables } from '../../lib/rules/index.ts';
import { inbound, matching, outbound, untyped } from '../fixtures/plan-configs.ts';

t.test('a family without rules has no table', async (t) => {
  const plan = planRules(matching({ destinations: ['2001:db8::/32'] }));
  t.same(Object.keys(plan.chains), ['IPv6']);
  t.notMatch(toNftables(plan), /table ip /);
  const tproxy = planRules(outbound({ mode: 'tproxy', include: { destinations: ['10.0.0.0/8'] } }));
  t.same(tproxy.routes, [{ family: 'IPv4', mark: 1339, table: 133 }]);
  const gateway = planRules({
    gateway: { mode: 'tproxy', port: 1, include: { sources: ['fd00::/8'] }, forwarding: true },
  });
  t.same(gateway.routes, [{ family: 'IPv6', mark: 1337, table: 133 }]);
  t.same(gateway.sysctls, [{ key: 'net/ipv6/conf/all/forwarding', value: '1' }]);
  const inboundPlan = planRules(inbound({ include: { sources: ['10.0.0.0/8'] } }));
  t.same(Object.keys(inboundPlan.chains), ['IPv4']);
});

t.test('DNS of a gateway that captures nothing else', async (t) => {
  const text = toNftables(
    planRules({ gateway: { mode: 'tproxy', port: 1, include: [] }, dns: { port: 15053 } }),
  );
  t.match(text, /\tudp dport 53 counter redirect to :15053/);
  t.notMatch(text, /tproxy/);
});

t.test('DNS of clients that are named twice', async (t) => {
  const text = toNftables(
    planRules({
      families: ['IPv4'],
      gateway: {
        mode: 'redirect',
        port: 1,
        include: [
          { interfaces: ['lan0'], ports: [80] },
          { interfaces: ['lan0'], ports: [443] },
          { interfaces: ['lan0'], sources: ['10.0.0.0/8'], ports: [22] },
        ],
      },
      dns: { port: 15053 },
    }),
  );
  t.equal(text.match(/udp dport 53/g)?.length, 1);
});

t.test('a hairpin beside DNS', async (t) => {
  const own = { uids: [1337], sources: ['127.0.0.6', '::6'] };
  const hairpin = { exceptPorts: ['50-60' as const, 80] };
  const text = toNftables(
    planRules(inbound({}, outbound({ hairpin }, { exempt: own, dns: { port: 15053 } }))),
  );
  t.match(
    text,
    'ip daddr != 127.0.0.1 tcp dport != { 50-60, 80 } meta skuid 1337 counter redirect to :15006',
  );
});

t.test('a hairpin without exceptions', async (t) => {
  const own = { uids: [1337], sources: ['127.0.0.6', '::6'] };
  const text = toNftables(planRules(inbound({}, outbound({ hairpin: {} }, { exempt: own }))));
  t.match(
    text,
    'oifname "lo" ip daddr != 127.0.0.1 meta l4proto tcp meta skuid 1337 counter redirect to :15006',
  );
  const byGroup = { gids: [7], sources: ['127.0.0.6', '::6'] };
  const tproxy = toNftables(
    planRules(inbound({ mode: 'tproxy' }, outbound({ hairpin: {} }, { exempt: byGroup }))),
  );
  t.match(tproxy, 'ip daddr != 127.0.0.1 meta l4proto tcp meta skgid 7 meta mark set 0x0000053a');
  t.notMatch(tproxy, /counter redirect to :15006/);
  const redirected = toNftables(planRules(inbound({}, outbound({ hairpin: {} }, { exempt: byGroup }))));
  t.match(redirected, 'meta skgid 7 counter redirect to :15006');
});

t.test('prefixes', async (t) => {
  const listed = (destinations: string[]): string | undefined =>
    /\tip6? daddr (\{.*?\}|\S+) meta l4proto tcp counter redirect/.exec(
      toNftables(planRules(matching({ destinations }))),
    )?.[1];
  t.equal(listed(['10.0.0.0/9', '10.128.0.0/9']), '10.0.0.0/8', 'two halves are one');
  t.equal(listed(['10.0.1.0/24', '10.0.2.0/24']), '10.0.1.0-10.0.2.255', 'neighbours are a range');
  t.equal(listed(['10.0.0.1', '10.0.0.3']), '{ 10.0.0.1, 10.0.0.3 }');
  t.equal(listed(['0.0.0.0/0']), undefined, 'all of a family is no condition');
  t.equal(listed(['2001:DB8:0:0:0:0:0:1']), '2001:db8::1', 'canonical text');
  t.equal(listed(['1:2:3:4:5:6:7:8']), '1:2:3:4:5:6:7:8');
  t.equal(listed(['::1.2.3.4']), '::1.2.3.4', 'as the tools write it');
  t.equal(listed(['8000::/1']), '8000::/1');
});

t.test('sidecar options', async (t) => {
  t.same(sidecar({ name: 'mesh', families: ['IPv4'], inboundPorts: [80], proxyUid: 5, proxyGid: 6 }), {
    ...sidecar(),
    name: 'mesh',
    families: ['IPv4'],
    inbound: { ...sidecar().inbound, include: [{ ports: [80] }] },
    exempt: { uids: [5], gids: [6], sources: ['127.0.0.6'] },
  });
  const none = sidecar({
    inbound: 'none',
    outboundGids: [5],
    excludeOutboundGids: [6],
    localhost: '127.0.0.0/8',
  });
  t.equal(none.inbound, undefined);
  t.same(none.outbound?.hairpin, { port: 15006, exceptPorts: [15008] }, 'its own calls come in all the same');
  t.same(none.outbound?.include, [{ gids: [5] }]);
  t.same(none.outbound?.exclude, [{ gids: [6] }, { ports: [15020] }]);
  t.equal(none.localhost, '127.0.0.0/8');
  t.same(sidecar({ passthrough: ['127.0.0.7'] }).exempt?.sources, ['127.0.0.7']);
  const marked = sidecar({ inbound: 'tproxy', mark: 0x500, table: 7 });
  t.same([marked.mark, marked.table, marked.inbound?.preserveSource], [0x500, 7, { mark: 1337 }]);
  t.match(toNftables(planRules(marked)), 'meta mark 0x00000539 ct mark set 0x00000500');
  t.throws(() => planRules(sidecar({ mark: 7 })), /nothing is routed/);
  t.same(sidecar({ proxyUid: [5, 6], proxyGid: [7, 8] }).exempt?.uids, [5, 6]);
  t.same(sidecar({ excludeOutboundPorts: [22] }).outbound?.exclude, [{ ports: [15020, 22] }]);
  t.same(sidecar({ outboundPorts: [443] }).outbound?.include, [{}], 'all includes all ports');
  t.same(sidecar({ outboundCidrs: [], outboundPorts: [443] }).outbound?.include, [{ ports: [443] }]);
});

t.test('what is not captured is refused', async (t) => {
  const refusing = outbound({ include: { destinations: ['192.0.2.0/24'] }, otherwise: 'reject' });
  const plan = planRules(refusing);
  const ids = (chains: (typeof plan)['chains']['IPv4']): string[] => chains!.map(({ id }) => id);
  t.same([ids(plan.chains.IPv4), ids(plan.chains.IPv6)], [['out', 'rej-out'], ['rej-out']], 'both families');
  t.same(Object.keys(draining(plan).chains), ['IPv4'], 'nothing is left of a family that was only refused');
  t.same(ids(draining(plan).chains.IPv4), ['out']);
  t.same(planRules(outbound({ otherwise: 'pass' })), planRules(outbound({})), 'the default');
  for (const otherwise of ['drop', true])
    t.throws(() => planRules(untyped({ ...refusing, outbound: { ...refusing.outbound, otherwise } })), {
      code: 'ERR_RULES_OPTION',
      message: /outbound\.otherwise: .* is none of pass, reject/,
    });
  t.throws(() => planRules(untyped({ inbound: { mode: 'redirect', port: 1, otherwise: 'reject' } })), {
    code: 'ERR_RULES_OPTION',
  });
});
