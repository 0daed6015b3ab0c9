// The doctor shown machines that are not at hand: kernels, sandboxes, tools, rights.
import { constants } from 'node:os';
import t from 'tap';
import { diagnose, type DiagnoseOptions, type Finding, worst } from '../../lib/doctor/index.ts';
import { thisHost } from '../../lib/doctor/host.ts';
import { ask, fakeHost, levels, ruleset } from '../fixtures/fake-host.ts';

const NETFILTER = '/proc/sys/net/netfilter';

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
  const busybox = { status: 1, stderr: 'BusyBox v1.35.0 (Debian 1:1.35.0-4) multi-call binary.\n' };
  t.match((await ask({ commands: { ...all, ip: busybox, unshare: busybox } }))('tools'), [
    { level: 'warning', title: 'ip is that of BusyBox' },
  ]);
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

t.test('can this user capture a command?', async (t) => {
  const of = (native: object, stdout = '') =>
    ask({ native, commands: { sh: { stdout } } }).then((ids) => ids('command-capture'));
  const closed: number[] = [];
  const fine = { createNamespace: () => 77, closeFd: (fd: number) => closed.push(fd) };
  t.match(await of(fine, 'nft\nip\nnsenter\nunshare\n'), [{ level: 'ok' }]);
  t.same(closed, [77]);
  t.match(await of(fine, 'ip\nunshare\n'), [
    {
      level: 'warning',
      detail: /no program nft or nsenter here/,
      remedy: 'apt-get install nftables util-linux',
    },
  ]);
  t.match(await of({ createNamespace: () => [-22, 1] }), [
    { level: 'warning', detail: /here: uid_map EINVAL/ },
  ]);
  t.same(await of(new Error('no binary')), []);
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
  t.match((await ask({}))('nat-ipv4'), [{ detail: /no unshare\(1\)/, remedy: undefined }]);
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
