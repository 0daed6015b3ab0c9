// The doctor shown networks that are not at hand: rules, listeners, routes, settings.
import t from 'tap';
import { type DiagnoseOptions } from '../../lib/doctor/index.ts';
import { parseIptables } from '../../lib/doctor/found-iptables.ts';
import { parseNftables } from '../../lib/doctor/found-nftables.ts';
import { ask, levels, ruleset, type Machine } from '../fixtures/fake-host.ts';

const CONF = '/proc/sys/net/ipv4/conf';

t.test('rules of nftables', async (t) => {
  const parse = (expr: object[], family = 'inet', hook = 'output') =>
    parseNftables(ruleset(hook, expr, family)!['nft -j list ruleset']!.stdout!);
  t.match(parse([{ counter: { packets: 3, bytes: 1 } }, { redirect: { port: 15001 } }]), {
    native: true,
    compat: false,
    rules: [
      { kind: 'redirect', port: 15001, families: [4, 6], packets: 3, hooks: ['output'], place: 'inet t / c' },
    ],
  });
  const mark = { mangle: { key: { meta: { key: 'mark' } }, value: 1337 } };
  t.match(parse([mark, { tproxy: { family: 'ip6', addr: '::1', port: 1 } }], 'inet', '').rules, [
    { kind: 'tproxy', families: [6], address: '::1', mark: 1337, packets: undefined, hooks: [] },
  ]);
  t.match(parse([{ redirect: null }]).rules, [{ kind: 'redirect', port: undefined }], 'keeps the port');
  t.match(parse([{ dnat: { addr: { map: {} }, port: { map: {} } } }]).rules, [
    { port: undefined, address: undefined },
  ]);
  t.match(parse([{ mangle: { key: { meta: { key: 'priority' } }, value: 1 } }, { accept: null }]).rules, []);
  t.match(parse([{ redirect: { port: 1 } }], 'bridge').rules, [{ families: [] }]);
  t.match(parse([{ xt: null }]), { native: false, compat: true, rules: [] });
});

t.test('rules of iptables', async (t) => {
  const saved = `# Generated
*nat
:OUTPUT ACCEPT [0:0]
[12:720] -A OUTPUT -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 15001
[0:0] -A ISTIO -p tcp -j REDIRECT
[1:60] -A PREROUTING -p tcp -j DNAT --to-destination 127.0.0.1:15001
[1:60] -A PREROUTING -p tcp -j DNAT --to-destination 10.0.0.1
[1:60] -A OUTPUT -j RETURN
COMMIT
*mangle
[0:0] -A PREROUTING -p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff
COMMIT`;
  t.match(parseIptables(saved, 4).rules, [
    { via: 'iptables', kind: 'redirect', port: 15001, packets: 12, hooks: ['output'], place: 'nat / OUTPUT' },
    { kind: 'redirect', port: undefined, hooks: [] },
    { kind: 'dnat', port: 15001, address: '127.0.0.1', hooks: ['prerouting'] },
    { kind: 'dnat', port: undefined, address: '10.0.0.1' },
    { kind: 'tproxy', port: 15006, address: '0.0.0.0', mark: 1337, place: 'mangle / PREROUTING' },
  ]);
  t.match(parseIptables('[1:1] -A PREROUTING -j DNAT --to-destination [2001:db8::1]:80', 6).rules, [
    { port: 80, address: '2001:db8::1', families: [6] },
  ]);
});

t.test('chains that others jump to', async (t) => {
  const saved = `*mangle
[9:9] -A PREROUTING -p tcp -j IN
[9:9] -A OUTPUT -j OUT
[0:0] -A OUT -o lo -g IN
[0:0] -A IN -m mark --mark 0x1 -j MARK --set-xmark 0x2/0xffffffff
[0:0] -A IN -i br+ -m comment --comment "left alone" -j RETURN
[0:0] -A IN -i eth0 -p udp -j RETURN
[0:0] -A IN -m addrtype ! --dst-type LOCAL -j RETURN
[1:1] -A IN -i veth+ -p tcp -j TPROXY --on-port 15006 --tproxy-mark 0x1
[0:0] -A LONELY -j LONELY
[1:1] -A LONELY -p tcp -j REDIRECT --to-ports 2
COMMIT`;
  t.match(parseIptables(saved, 4).rules, [
    { hooks: ['prerouting', 'output'], interfaces: ['veth*'], spared: ['br*'], localOnly: true },
    { hooks: [], spared: [], localOnly: false },
  ]);
  const jump = (from: string, verdict: object) => ({
    rule: { family: 'ip', table: 't', chain: from, expr: [verdict] },
  });
  const base = (name: string, hook: string) => ({ chain: { family: 'ip', table: 't', name, hook } });
  const only = (op: string, left: object, right: unknown, verdict = 'return') => ({
    rule: {
      family: 'ip',
      table: 't',
      chain: 'deep',
      expr: [{ match: { op, left, right } }, { [verdict]: null }],
    },
  });
  const iif = { meta: { key: 'iifname' } };
  const nftables = [
    base('a', 'prerouting'),
    base('b', 'output'),
    jump('a', { jump: { target: 'deep' } }),
    jump('b', { goto: { target: 'deep' } }),
    only('==', iif, { set: ['br0', 'br1'] }),
    only('!=', iif, 'eth0'),
    only('==', iif, 'eth9', 'drop'),
    jump('deep', { return: null }),
    only('==', { fib: { result: 'type', flags: ['daddr'] } }, 'multicast'),
    only('!=', { fib: { result: 'type', flags: ['daddr'] } }, 'local'),
    only('==', { socket: { key: 'cgroupv2' } }, 7),
    jump('deep', { redirect: { port: 1 } }),
  ];
  t.match(parseNftables(JSON.stringify({ nftables })), {
    rules: [{ hooks: ['prerouting', 'output'], spared: ['br0', 'br1'], localOnly: true }],
    cgroups: [{ cgroup: '7', place: 'ip t / deep' }],
  });
});

t.test('two kinds of iptables', async (t) => {
  const legacy = { '/proc/net/ip_tables_names': 'nat\n', '/proc/net/ip6_tables_names': 'nat\nmangle\n' };
  const line = '*nat\n[0:0] -A OUTPUT -j REDIRECT --to-ports 15001\n';
  const commands = {
    ...ruleset('output', [{ redirect: { port: 1 } }]),
    'iptables-legacy-save': { stdout: line },
  };
  const both = await ask({ files: legacy, commands });
  t.match(both('iptables-backends'), [{ level: 'warning', detail: /^Legacy tables: nat, mangle\./ }]);
  t.match(both('rules'), [{ title: '2 rules intercept' }]);
  const old = await ask({
    files: legacy,
    commands: { 'nft -j list ruleset': { stdout: '{"nftables":[]}' } },
  });
  t.match(old('iptables-backends'), [{ level: 'ok', title: 'legacy iptables in use' }]);
  const withoutNft = await ask({
    commands: { 'iptables-nft-save': { status: 1 }, 'iptables-save': { stdout: line } },
  });
  t.match(withoutNft('rules'), [{ level: 'ok', title: '1 rules intercept' }]);
  t.match(withoutNft('iptables-backends'), [{ level: 'ok', title: 'nftables in use' }]);
  const legacyOnly = await ask({ files: legacy, commands: { 'iptables-save': { stdout: line } } });
  t.match(legacyOnly('rules'), [{ title: '1 rules intercept' }], 'not the same rule twice');
  t.match(legacyOnly('iptables-backends'), [{ title: 'legacy iptables in use' }]);
});

t.test('rules', async (t) => {
  t.match((await ask({}))('rules'), [{ level: 'warning', title: 'the rules cannot be read' }]);
  const empty = { 'nft -j list ruleset': { stdout: '{"nftables":[]}' } };
  t.same(await levels({ commands: empty }, 'rules'), ['warning']);
  t.same(await levels({ commands: empty }, 'rules', { port: 1 }), ['problem']);
  const to = (packets?: number) =>
    ruleset('output', [
      ...(packets === undefined ? [] : [{ counter: { packets } }]),
      { redirect: { port: 15001 } },
    ])!;
  t.match((await ask({ commands: to() }, { port: 15002 }))('rules'), [
    { level: 'problem', title: 'no rule leads to port 15002', detail: /redirect to port 15001 in ip t \/ c/ },
  ]);
  t.same(await levels({ commands: to() }, 'rules', { port: 15001 }), ['ok']);
  t.same(await levels({ commands: to() }, 'rules-counters'), []);
  t.same(await levels({ commands: to(0) }, 'rules-counters'), ['warning']);
  t.same(await levels({ commands: to(1) }, 'rules-counters'), ['ok']);
  const same = ruleset('output', [{ redirect: null }])!;
  t.match((await ask({ commands: same }))('rules'), [{ detail: /redirect to the same port/ }]);
});

t.test('listener', async (t) => {
  const sockets = (...lines: string[]) => ({
    'ss -HltnO --inet-sockopt': { stdout: lines.map((line) => `LISTEN 0 128 ${line}\n`).join('') },
    'ss -HlMnO': {},
  });
  const redirect = ruleset('prerouting', [{ redirect: { port: 15001 } }])!;
  const tproxy = ruleset('prerouting', [{ tproxy: { port: 15001 } }])!;
  const said = async (commands: Machine['commands'], id: string, options: DiagnoseOptions = {}) =>
    (await ask({ commands: commands! }, options))(id);
  t.match(await said({ ...redirect, 'ss -HltnO': {} }, 'listener'), [
    { level: 'problem', title: /^nobody listens/ },
  ]);
  t.match(await said(redirect, 'listener'), [{ level: 'warning', title: /cannot be read/ }]);
  t.match(await said(sockets(), 'listener', { port: 15001 }), [{ detail: /^The proxy is not running/ }]);
  t.match(await said(sockets('0.0.0.0:15001 0.0.0.0:*'), 'listener', { port: 15001 }), [{ level: 'ok' }]);
  t.match(await said({ ...redirect, ...sockets('127.0.0.1:15001 0.0.0.0:*') }, 'listener'), [
    { level: 'problem', title: 'the listener at port 15001 is bound to 127.0.0.1' },
  ]);
  t.match(await said({ ...redirect, ...sockets('[::1]:15001 [::]:*') }, 'listener'), [
    { level: 'problem', title: 'the listener at port 15001 does not take IPv4' },
  ]);
  t.match(await said({ ...redirect, ...sockets('*:15001 *:*') }, 'listener'), [{ level: 'ok' }]);
  t.match(await said({ ...redirect, ...sockets('[::]:15001 [::]:*') }, 'listener'), [
    { level: 'problem', title: 'the listener at port 15001 does not take IPv4' },
  ]);
  t.match(await said({ ...redirect, ...sockets('[::ffff:192.0.2.1]:15001 *:*') }, 'listener'), [
    { level: 'ok', detail: 'Bound to 192.0.2.1.' },
  ]);
  t.same(await said({ ...redirect, ...sockets('*:15001 *:*') }, 'listener-transparent'), []);

  const options = (names: string) => sockets(`0.0.0.0%eth0:15001 0.0.0.0:* inet-sockopt: (${names})`);
  t.match(await said({ ...tproxy, ...options(' is_icsk mc_loop') }, 'listener-transparent'), [
    { level: 'problem' },
  ]);
  t.match(await said({ ...tproxy, ...options(' transparent ') }, 'listener-transparent'), [{ level: 'ok' }]);
  t.match(await said(options(' is_icsk'), 'listener-transparent', { port: 15001, mode: 'tproxy' }), [
    { level: 'problem' },
  ]);
  const old = {
    'ss -HltnO --inet-sockopt': { status: 255 },
    'ss -HltnO': { stdout: 'LISTEN 0 1 *:15001 *:*\n' },
  };
  t.match(await said({ ...tproxy, ...old }, 'listener-transparent'), [{ level: 'warning' }]);

  const mptcp = { ...sockets('*:15001 *:*'), 'ss -HlMnO': { stdout: 'LISTEN 0 1 *:15001 *:*\n' } };
  t.match(await said(mptcp, 'mptcp', { port: 15001 }), [{ level: 'warning', detail: /ctnetlink/ }]);
});

t.test('policy routing', async (t) => {
  const tproxy = ruleset('prerouting', [
    { mangle: { key: { meta: { key: 'mark' } }, value: 5 } },
    { tproxy: { port: 1 } },
  ])!;
  const unmarked = ruleset('prerouting', [{ tproxy: { port: 1 } }])!;
  const get = 'ip -4 -j route get 198.51.100.1 mark 5';
  const local = { stdout: '[{"type":"local"}]' };
  const rule = { 'ip -4 -j rule': { stdout: '[{"priority":9,"fwmark":"0x5","table":"7"},{"priority":10}]' } };
  const earlier = {
    stdout: '[{"priority":0},{"priority":1},{"priority":2,"fwmark":"0x6"},{"priority":9,"fwmark":"0x5"}]',
  };
  const said = async (commands: Machine['commands'], options: DiagnoseOptions = {}) =>
    (await ask({ commands: commands! }, options))('policy-routing-ipv4');
  t.match(await said(tproxy), [{ level: 'warning', title: /cannot be read/ }]);
  t.match(await said({ ...tproxy, 'ip -4 -j rule': { status: 2 } }), [
    {
      level: 'problem',
      title: 'no routing rule for mark 5',
      remedy: /^ip -4 rule add fwmark 5 lookup 133 && ip -4 /,
    },
  ]);
  t.match(await said({ ...tproxy, ...rule, [get]: { status: 2 } }), [
    {
      level: 'problem',
      title: /its table has no local route/,
      remedy: 'ip -4 route add local default dev lo table 7',
    },
  ]);
  t.match(await said({ ...tproxy, ...rule, [get]: { stdout: '[{"dev":"eth0"}]' } }), [{ level: 'problem' }]);
  const delivered = { stdout: '[{"type":"local","dst":"default"}]' };
  t.match(await said({ ...tproxy, 'ip -4 -j rule': earlier, 'ip -4 -j route show table main': delivered }), [
    {
      title: /takes its packets: 1 \(table none\)$/,
      remedy: 'ip -4 rule add fwmark 5 lookup main priority 1',
    },
  ]);
  t.match(
    await said({ ...tproxy, ...rule, 'ip -4 -j route show table 7': delivered, [get]: { status: 2 } }),
    [{ title: /takes its packets: $/, remedy: 'ip -4 rule add fwmark 5 lookup 7 priority 8' }],
    'nothing seems to stand before it',
  );
  const busybox = { status: 1, stderr: 'ip: unrecognized option: j\nBusyBox v1.35.0 multi-call binary.' };
  t.match(await said({ ...tproxy, 'ip -4 -j rule': busybox }), [
    { level: 'warning', detail: 'This ip(8) is not that of iproute2.', remedy: 'apt-get install iproute2' },
  ]);
  t.match(
    await said({ ...tproxy, ...rule, 'ip -4 -j route': busybox }),
    [{ level: 'problem' }],
    'an ip(8) that answers one question only',
  );
  t.match(await said({ ...tproxy, ...rule, [get]: local }), [
    { level: 'ok', title: 'mark 5 routes to this host' },
  ]);
  t.match(await said({ ...unmarked, ...rule, [get]: local }), [{ level: 'ok' }], 'set by some other rule');
  t.match(await said({ ...unmarked, 'ip -4 -j rule': { stdout: '[]' } }), [
    { title: 'no routing rule for mark 1' },
  ]);
  t.match(await said({ ...rule, [get]: local }, { mode: 'tproxy', mark: 5 }), [{ level: 'ok' }]);
  t.same(await said({ ...tproxy, ...rule }, { mode: 'redirect' }), []);
  const six = ruleset('prerouting', [{ tproxy: { port: 1 } }], 'ip6')!;
  t.same(await said({ ...six, ...rule }), [], 'no rule for IPv4, none needed');
  const enabled = { '/proc/sys/net/ipv6/conf/all/disable_ipv6': '0\n' };
  const of = await ask({ files: enabled, commands: { ...six, 'ip -6 -j rule': {} } });
  t.match(of('policy-routing-ipv6'), [{ level: 'problem' }]);
});

t.test('settings of the network', async (t) => {
  const said = (id: string, files: Record<string, string>, options: DiagnoseOptions = {}, commands = {}) =>
    levels({ files, commands }, id, options);
  t.same(await said('rp-filter', {}), ['ok']);
  t.same(await said('rp-filter', { [`${CONF}/all/rp_filter`]: '2', [`${CONF}/eth0/rp_filter`]: '1' }), [
    'ok',
  ]);
  const dotted = await ask({ files: { [`${CONF}/eth0.7/rp_filter`]: '1', [`${CONF}/all/rp_filter`]: '0' } });
  t.match(dotted('rp-filter'), [
    { level: 'warning', remedy: 'sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.eth0/7.rp_filter=2' },
  ]);
  t.same(await said('rp-filter', { [`${CONF}/lo/rp_filter`]: '1' }), ['ok']);

  const marked = { [`${CONF}/all/src_valid_mark`]: '1', [`${CONF}/eth0/src_valid_mark`]: '0' };
  t.same(await said('src-valid-mark', marked), ['warning']);
  t.same(await said('src-valid-mark', marked, { mode: 'tproxy' }), ['problem']);
  t.same(await said('src-valid-mark', {}), ['ok']);

  const dnat = ruleset('prerouting', [{ dnat: { addr: '127.0.0.1', port: 1 } }])!;
  const shut = { [`${CONF}/eth0/route_localnet`]: '0' };
  const open = { [`${CONF}/eth0/route_localnet`]: '1' };
  t.same(await said('route-localnet', shut), ['ok']);
  t.same(await said('route-localnet', shut, {}, dnat), ['problem']);
  t.same(await said('route-localnet', open, {}, dnat), ['ok']);
  t.same(await said('route-localnet', open), ['warning']);

  const forward = '/proc/sys/net/ipv4/ip_forward';
  t.same(await said('ip-forward', { [forward]: '0' }), ['ok']);
  t.same(await said('ip-forward', { [forward]: '0' }, { direction: 'gateway' }), ['problem']);
  t.same(await said('ip-forward', { [forward]: '1' }, { direction: 'gateway' }), ['ok']);

  const redirect = ruleset('output', [{ redirect: { port: 1 } }])!;
  const route = { 'ip -6 route show default': { stdout: 'default via fe80::1 dev eth0\n' } };
  t.same(await said('ipv6-bypass', {}, {}, { ...redirect, ...route }), ['warning']);
  t.same(await said('ipv6-bypass', {}, {}, { ...redirect, 'ip -6 route show default': {} }), []);
  const both = ruleset('output', [{ redirect: { port: 1 } }], 'inet')!;
  t.same(await said('ipv6-bypass', {}, {}, { ...both, ...route }), []);
});

t.test('programs at connect(2)', async (t) => {
  const directory = t.testdir({ pod: {} });
  const files = {
    '/proc/self/cgroup': '1:name=x:/\n0::/pod\n',
    '/proc/self/mountinfo': `30 20 0:26 / ${directory} rw - cgroup2 none rw\n`,
    [`${directory}/pod/cgroup.procs`]: '',
  };
  const count = (answer: number) => ({ connectPrograms: () => answer });
  const said = async (machine: Machine) => (await ask(machine))('cgroup-bpf');
  t.match(await said({ files, native: count(2) }), [{ level: 'warning', detail: /^2 programs/ }]);
  t.match(await said({ files, native: count(0) }), [{ level: 'ok', title: /^no program/ }]);
  t.match(await said({ files, native: count(-1) }), [{ level: 'ok', title: /^no sign/ }]);
  t.match(await said({ files, native: new Error('none') }), [{ level: 'ok', title: /^no sign/ }]);
  const outside = { ...files, '/proc/self/cgroup': '0::/../elsewhere\n' };
  t.match(
    await said({ files: outside, native: count(1) }),
    [{ level: 'warning' }],
    'the mount itself is asked',
  );
  t.match(await said({}), [{ level: 'ok', title: /^no sign/ }]);
  t.match(await said({ files: { '/sys/class/net/cilium_host/ifindex': '' } }), [
    { level: 'warning', detail: /^Cilium is at work/ },
  ]);
});
