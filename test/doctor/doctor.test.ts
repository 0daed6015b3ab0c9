import { constants } from 'node:os';
import t from 'tap';
import { diagnose, type DiagnoseOptions, type Finding, worst } from '../../lib/doctor/index.ts';
import { thisHost } from '../../lib/doctor/host.ts';
import { parseIptables, parseNftables } from '../../lib/doctor/found-rules.ts';
import { fakeHost, type Machine } from '../fixtures/fake-host.ts';

async function ask(machine: Machine, options: DiagnoseOptions = {}): Promise<(id: string) => Finding[]> {
  const findings = await diagnose({ ...options, host: fakeHost(machine) });
  return (id) => findings.filter((finding) => finding.id === id);
}

/** Levels of the findings with an id. */
async function levels(machine: Machine, id: string, options: DiagnoseOptions = {}): Promise<string[]> {
  return (await ask(machine, options))(id).map(({ level }) => level);
}

const NETFILTER = '/proc/sys/net/netfilter';
const CONF = '/proc/sys/net/ipv4/conf';

/** What `nft -j list ruleset` says of one chain with one rule. */
function ruleset(hook: string, expr: object[], family = 'ip'): Machine['commands'] {
  const stdout = JSON.stringify({
    nftables: [
      { metainfo: {} },
      { chain: { family, table: 't', name: 'c', ...(hook === '' ? {} : { hook }) } },
      { rule: { family, table: 't', chain: 'c', expr } },
    ],
  });
  return { 'nft -j list ruleset': { stdout } };
}

t.test('the whole of this machine', async (t) => {
  const findings = await diagnose();
  for (const { id, level, title, detail } of findings) {
    t.match(id, /^[a-z0-9-]+$/);
    t.ok(['ok', 'warning', 'problem'].includes(level), id);
    t.ok(title.length > 0 && detail.length > 0, id);
  }
  const ids = new Set(findings.map(({ id }) => id));
  for (const id of ['kernel', 'nat-ipv4', 'tproxy-ipv6']) t.ok(ids.has(id), id);
});

t.test('what is not there is nothing', async (t) => {
  t.equal(thisHost.read('/nonexistent'), undefined);
  t.equal(thisHost.link('/nonexistent'), undefined);
  t.same(thisHost.list('/nonexistent'), []);
  t.equal((await thisHost.run('/nonexistent', [])).status, null);
});

t.test('worst', async (t) => {
  const of = (level: Finding['level']): Finding => ({ id: 'x', level, title: '', detail: '' });
  t.equal(worst([]), 'ok');
  t.equal(worst([of('ok'), of('warning')]), 'warning');
  t.equal(worst([of('problem'), of('warning')]), 'problem');
});

t.test('bad options are refused', async (t) => {
  const wrong = (options: unknown, code: string) => t.rejects(diagnose(options as DiagnoseOptions), { code });
  await wrong(null, 'ERR_INVALID_ARG_TYPE');
  await wrong({ port: 'a' }, 'ERR_INVALID_ARG_TYPE');
  await wrong({ port: 0 }, 'ERR_OUT_OF_RANGE');
  await wrong({ mark: 0 }, 'ERR_OUT_OF_RANGE');
  await wrong({ mode: 1 }, 'ERR_INVALID_ARG_TYPE');
  await wrong({ mode: 'nat' }, 'ERR_OUT_OF_RANGE');
  await wrong({ direction: 'up' }, 'ERR_OUT_OF_RANGE');
  await wrong({ selfTest: 1 }, 'ERR_INVALID_ARG_TYPE');
});

t.test('kernel', async (t) => {
  const release = (text: string) => ({ files: { '/proc/sys/kernel/osrelease': `${text}\n` } });
  t.same(await levels(release('6.18.1-arch'), 'kernel'), ['ok']);
  t.same(await levels(release('5.2.0'), 'kernel'), ['ok']);
  t.same(await levels(release('5.1.21'), 'kernel'), ['warning']);
  t.same(await levels(release('4.19.0-27-amd64'), 'kernel'), ['warning']);
  t.same(await levels({}, 'kernel'), ['warning'], 'no /proc at all');
  const elsewhere = await diagnose({ host: fakeHost({ platform: 'darwin' }) });
  t.match(elsewhere, [{ id: 'kernel', level: 'problem', title: 'this is darwin' }]);
  t.equal(elsewhere.length, 1, 'nothing else is asked there');
});

t.test('sandboxes and emulators', async (t) => {
  const none = await ask({});
  for (const id of ['gvisor', 'wsl', 'qemu-user', 'container']) t.same(none(id), [], `no ${id}`);
  const version = 'Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n';
  t.same(await levels({ files: { '/proc/version': version } }, 'gvisor'), ['problem']);

  const wsl = (release: string) => ({ files: { '/proc/sys/kernel/osrelease': release } });
  t.same(await levels(wsl('4.4.0-19041-Microsoft\n'), 'wsl'), ['problem']);
  t.same(await levels(wsl('5.15.153.1-microsoft-standard-WSL2\n'), 'wsl'), ['warning']);

  t.same(await levels({ files: { '/proc/self/comm': 'qemu-aarch64-st\n' } }, 'qemu-user'), ['problem']);
  const x86 = { '/proc/cpuinfo': 'processor\t: 0\nvendor_id\t: GenuineIntel\n' };
  t.same(await levels({ files: x86, arch: 'arm64' }, 'qemu-user'), ['problem']);
  t.same(await levels({ files: x86, arch: 'x64' }, 'qemu-user'), []);
  t.same(await levels({ files: x86, arch: 'riscv64' }, 'qemu-user'), [], 'not known: not said');
  const refuses = { conntrackActive: () => -constants.errno.ENOPROTOOPT };
  const max = { [`${NETFILTER}/nf_conntrack_max`]: '1000\n' };
  t.same(await levels({ files: max, native: refuses }, 'qemu-user'), ['problem']);
  t.same(await levels({ files: max, native: new Error('none') }, 'qemu-user'), []);

  const container = (files: Record<string, string>, env = {}) =>
    ask({ files, env }).then((of) => of('container'));
  t.match(await container({ '/.dockerenv': '' }), [{ level: 'ok', title: 'a container of Docker' }]);
  t.match(await container({ '/run/.containerenv': 'engine="podman-4"\nrootless=1\n' }), [
    { title: 'a container of rootless Podman', detail: /--network=host/ },
  ]);
  t.match(await container({ '/run/.containerenv': '' }), [{ title: 'a container of Podman' }]);
  t.match(await container({}, { KUBERNETES_SERVICE_HOST: '10.0.0.1' }), [{ detail: /securityContext/ }]);
  const resolver = { '/.dockerenv': '', '/etc/resolv.conf': 'nameserver 127.0.0.11\n' };
  t.match(await container(resolver), [{ level: 'warning', detail: /DOCKER_OUTPUT/ }]);
});

t.test('the addon is missing', async (t) => {
  const of = await ask({
    native: new Error('no native binary'),
    files: { [`${NETFILTER}/nf_conntrack_max`]: '9' },
  });
  t.match(of('binary'), [{ level: 'problem', detail: /^no native binary\./, remedy: /rebuild/ }]);
  t.same(of('capabilities'), []);
  t.same(of('conntrack'), []);
});

t.test('tools', async (t) => {
  t.match((await ask({ commands: { 'nft --version': {}, unshare: {} } }))('tools'), [
    { level: 'warning', title: 'not installed: ip, ss' },
  ]);
  const all = { 'nft --version': { stdout: 'nftables v1\n' }, ip: {}, ss: {}, unshare: {} };
  t.same(await levels({ commands: all }, 'tools'), ['ok']);
});

t.test('namespaces', async (t) => {
  const of = (map: string, first?: string) =>
    ask({
      files: {
        '/proc/self/uid_map': map,
        '/proc/self/ns/net': 'net:[1]',
        ...(first === undefined ? {} : { '/proc/1/ns/net': first }),
      },
    }).then((ids) => ids('namespaces')[0]!);
  const identity = '         0          0 4294967295\n';
  t.match(await of(identity, 'net:[1]'), { level: 'ok', detail: /the same as of process 1/ });
  t.match(await of(identity, 'net:[2]'), { level: 'ok', detail: /another than of process 1/ });
  t.match(await of('0 1000 1\n1 100000 65536\n'), { level: 'ok', detail: /65537 uids/ });
  t.match(await of('0 1000 1\n'), { level: 'warning', title: /rootless/ });
  t.match((await ask({}))('namespaces'), [{ detail: /net:\[\?\]/ }]);
});

t.test('capabilities', async (t) => {
  const refused = { setTransparent: () => -constants.errno.EPERM };
  t.same(await levels({ native: { setTransparent: () => 0 } }, 'capabilities'), ['ok']);
  t.match((await ask({ native: refused }))('capabilities'), [
    { level: 'warning', detail: /neither/, remedy: 'setcap cap_net_admin+ep /usr/bin/node' },
  ]);
  t.same(await levels({ native: refused }, 'capabilities', { mode: 'redirect' }), ['ok']);
  t.same(await levels({ native: refused }, 'capabilities', { mode: 'tproxy' }), ['problem']);
  const status = { '/proc/self/status': 'Name:\tnode\nCapEff:\t0000000000003000\n' };
  t.match((await ask({ files: status, native: refused }))('capabilities'), [
    { detail: /CAP_NET_ADMIN and CAP_NET_RAW; setsockopt IP_TRANSPARENT EPERM/ },
  ]);
});

t.test('conntrack', async (t) => {
  const max = { [`${NETFILTER}/nf_conntrack_max`]: '1000\n' };
  const answers = (answer: number) => ({ conntrackActive: () => answer });
  t.same(await levels({}, 'conntrack'), ['problem']);
  t.same(await levels({}, 'conntrack', { mode: 'tproxy' }), ['warning']);
  t.match((await ask({ files: max, native: answers(0) }))('conntrack'), [{ level: 'ok', title: 'idle' }]);
  t.match((await ask({ files: max, native: answers(1) }))('conntrack'), [
    { level: 'ok', title: 'active for IPv4 and IPv6' },
  ]);
  const commands = ruleset('output', [{ redirect: { port: 1 } }])!;
  t.same(await levels({ files: max, native: answers(0), commands }, 'conntrack'), ['warning']);
});

t.test('conntrack-table', async (t) => {
  const table = (count: number, statistics: string) => ({
    files: {
      [`${NETFILTER}/nf_conntrack_max`]: '1000\n',
      [`${NETFILTER}/nf_conntrack_count`]: `${count}\n`,
      '/proc/net/stat/nf_conntrack': `entries insert_failed drop early_drop\n${statistics}\n`,
    },
  });
  t.same(await levels({}, 'conntrack-table'), [], 'no conntrack');
  t.same(await levels(table(10, '0 0 0 0'), 'conntrack-table'), ['ok']);
  t.same(await levels(table(10, '0 00000005 00000005 0'), 'conntrack-table'), ['ok'], 'clashes only');
  const { '/proc/net/stat/nf_conntrack': _, ...uncounted } = table(10, '').files as Record<string, string>;
  t.same(await levels({ files: uncounted }, 'conntrack-table'), ['ok'], 'a kernel without /proc/net/stat');
  t.same(await levels(table(950, '0 0 0 0'), 'conntrack-table'), ['warning']);
  t.match((await ask(table(10, '0 1 0000000a 0\n0 0 00000002 0')))('conntrack-table'), [
    { level: 'warning', title: /11 packets dropped/ },
  ]);
  t.same(await levels(table(10, '0 0 0 1'), 'conntrack-table'), ['warning']);
  t.match((await ask(table(1000, '0 0 1 0')))('conntrack-table'), [
    { level: 'problem', title: /is full: 1000 of 1000/, remedy: /nf_conntrack_max=2000/ },
  ]);
});

t.test('what the kernel supports', async (t) => {
  const none = { 'unshare -Urn true': { status: 1, stderr: 'unshare: Operation not permitted' } };
  const files = { '/proc/sys/kernel/apparmor_restrict_unprivileged_userns': '1\n' };
  const untried = await ask(
    { files, commands: { ...none, 'unshare -n true': { status: 1 } } },
    { selfTest: true },
  );
  for (const id of ['nat-ipv4', 'nat-ipv6', 'tproxy-ipv4', 'tproxy-ipv6', 'self-test']) {
    t.match(untried(id), [{ level: 'warning', detail: /Operation not permitted/ }], id);
  }
  t.equal(untried('nat-ipv4')[0]!.remedy, 'sysctl -w kernel.apparmor_restrict_unprivileged_userns=0');
  t.match((await ask({}))('nat-ipv4'), [{ detail: /no unshare\(1\)/ }]);
  const commands = {
    ...none,
    'unshare -n true': {},
    'unshare -n nft': { status: 1, stderr: 'Error: Could not process rule\nmore' },
    'unshare -n env': { status: 1, stderr: 'No chain/target/match' },
    'unshare -n env XTABLES_LOCKFILE=/dev/null iptables -t nat': {},
  };
  const mixed = await ask({ commands });
  t.match(mixed('nat-ipv4'), [
    { level: 'ok', title: /works with iptables$/, detail: /nftables: Error: Could not/ },
  ]);
  t.match(mixed('tproxy-ipv6'), [{ level: 'problem', remedy: 'modprobe -a nft_tproxy nf_tproxy_ipv6' }]);
  t.match(mixed('nat-ipv6'), [{ level: 'problem', remedy: 'modprobe -a nft_chain_nat nft_redir' }]);
});

t.test('the self-test fails', async (t) => {
  const run = (result: object) =>
    ask({ commands: { unshare: result, 'unshare -Urn true': {} } }, { selfTest: true });
  t.match((await run({ status: 1, stderr: 'crashed' }))('self-test'), [
    { level: 'problem', detail: 'crashed' },
  ]);
  const trial = (more: object) => ({ id: 'x', name: 'X', dialled: '1:1', expected: 'redirect 1:1', ...more });
  const stdout = (more: object) => run({ stdout: JSON.stringify([trial(more)]) });
  const unknown = { kind: 'unknown', cause: { code: 'ENOENT' } };
  t.match((await stdout({ recovered: unknown }))('self-test-x'), [
    { level: 'problem', title: 'X: unknown, ENOENT' },
  ]);
  t.match((await stdout({ error: 'EPERM' }))('self-test-x'), [{ level: 'problem', title: 'X: EPERM' }]);
});

t.test('rules of nftables', async (t) => {
  const parse = (expr: object[], family = 'inet', hook = 'output') =>
    parseNftables(ruleset(hook, expr, family)!['nft -j list ruleset']!.stdout!);
  t.match(parse([{ counter: { packets: 3, bytes: 1 } }, { redirect: { port: 15001 } }]), {
    native: true,
    compat: false,
    rules: [
      { kind: 'redirect', port: 15001, families: [4, 6], packets: 3, hook: 'output', place: 'inet t / c' },
    ],
  });
  const mark = { mangle: { key: { meta: { key: 'mark' } }, value: 1337 } };
  t.match(parse([mark, { tproxy: { family: 'ip6', addr: '::1', port: 1 } }], 'inet', '').rules, [
    { kind: 'tproxy', families: [6], address: '::1', mark: 1337, packets: undefined, hook: undefined },
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
  t.match(parseIptables(saved, 4), [
    { via: 'iptables', kind: 'redirect', port: 15001, packets: 12, hook: 'output', place: 'nat / OUTPUT' },
    { kind: 'redirect', port: undefined, hook: undefined },
    { kind: 'dnat', port: 15001, address: '127.0.0.1', hook: 'prerouting' },
    { kind: 'dnat', port: undefined, address: '10.0.0.1' },
    { kind: 'tproxy', port: 15006, address: '0.0.0.0', mark: 1337, place: 'mangle / PREROUTING' },
  ]);
  t.match(parseIptables('[1:1] -A PREROUTING -j DNAT --to-destination [2001:db8::1]:80', 6), [
    { port: 80, address: '2001:db8::1', families: [6] },
  ]);
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
