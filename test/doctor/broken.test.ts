// Environments broken on purpose, each in a network namespace of its own, and what the doctor calls them.
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { conntrack } from '../../lib/doctor/checks/conntrack.ts';
import { conntrackTable } from '../../lib/doctor/checks/conntrack-table.ts';
import { ipForward } from '../../lib/doctor/checks/ip-forward.ts';
import { iptablesBackends } from '../../lib/doctor/checks/iptables-backends.ts';
import { ipv6Bypass } from '../../lib/doctor/checks/ipv6-bypass.ts';
import { listener } from '../../lib/doctor/checks/listener.ts';
import { policyRouting } from '../../lib/doctor/checks/policy-routing.ts';
import { routeLocalnet } from '../../lib/doctor/checks/route-localnet.ts';
import { rpFilter } from '../../lib/doctor/checks/rp-filter.ts';
import { rules } from '../../lib/doctor/checks/rules.ts';
import { srcValidMark } from '../../lib/doctor/checks/src-valid-mark.ts';
import { tproxySupport } from '../../lib/doctor/checks/support.ts';
import { type Check, Context, type Subject } from '../../lib/doctor/context.ts';
import { thisHost } from '../../lib/doctor/host.ts';
import { diagnose, type Finding } from '../../lib/doctor/index.ts';
import type { Trial } from '../../lib/doctor/self-test-inside.ts';
import { createServer } from '../../lib/index.ts';
import { defaultRoutes, inNamespace, nft, sh } from '../fixtures/netns.ts';

/** The one check that can have findings of that name: a whole diagnosis takes half a second. */
const CHECKS: Record<string, Check> = {
  conntrack,
  listener,
  rules,
  'conntrack-table': conntrackTable,
  'ip-forward': ipForward,
  'iptables-backends': iptablesBackends,
  'ipv6-bypass': ipv6Bypass,
  'listener-transparent': listener,
  'policy-routing-ipv4': policyRouting,
  'policy-routing-ipv6': policyRouting,
  'route-localnet': routeLocalnet,
  'rp-filter': rpFilter,
  'rules-counters': rules,
  'src-valid-mark': srcValidMark,
  'tproxy-ipv4': tproxySupport,
};

async function said(id: string, subject: Subject = {}): Promise<Finding[]> {
  return (await CHECKS[id]!(new Context(thisHost, subject))).filter((finding) => finding.id === id);
}

async function listen(t: Test, transparent: boolean, address: string): Promise<number> {
  const server = createServer({ transparent }, (socket) => socket.destroy());
  server.listen(0, address);
  await once(server, 'listening');
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

function redirectTo(port: number): void {
  nft(`flush ruleset
    table inet t {
      chain o {
        type nat hook output priority -100
        ip daddr 198.51.100.0/24 tcp dport 80 counter redirect to :${port}
      }
    }`);
}

function tproxyTo(port: number): void {
  nft(`flush ruleset
    table ip t {
      chain p {
        type filter hook prerouting priority -150
        tcp dport 80 tproxy to :${port} meta mark set 1337
      }
    }`);
}

/** The doctor as a process of its own, started by way of other programs. */
function doctorBehind(...prefix: string[]): Finding[] {
  const program = [process.execPath, fileURLToPath(import.meta.resolve('../fixtures/programs/diagnose.js'))];
  const [command, ...args] = [...prefix, ...program];
  return JSON.parse(execFileSync(command!, args, { encoding: 'utf8' })) as Finding[];
}

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  t.test('nothing is wrong', async (t) => {
    const port = await listen(t, false, '::');
    redirectTo(port);
    spawnSync('curl', ['-s', '-m', '5', 'http://198.51.100.7/']);
    const findings = await diagnose({ port, mode: 'redirect', selfTest: true });
    t.same(
      findings.filter(({ level }) => level === 'problem'),
      [],
    );
    t.match(
      findings.filter(({ id }) => ['listener', 'rules', 'rules-counters', 'conntrack'].includes(id)),
      [
        { id: 'conntrack', level: 'ok', title: 'active for IPv4 and IPv6' },
        { id: 'rules', level: 'ok' },
        { id: 'rules-counters', level: 'ok', title: '1 packets matched' },
        { id: 'listener', level: 'ok' },
      ],
    );
    const tested = findings.filter(({ id }) => id.startsWith('self-test-'));
    t.same(
      tested.map(({ id, level, title }) => [id, level, title]),
      [
        ['self-test-redirect-tcp-ipv4', 'ok', 'redirect TCP IPv4: redirect 198.51.100.7:80'],
        ['self-test-tproxy-tcp-ipv4', 'ok', 'tproxy TCP IPv4: tproxy 198.51.100.7:80'],
        ['self-test-redirect-udp-ipv4', 'ok', 'redirect UDP IPv4: redirect 198.51.100.7:80'],
        ['self-test-tproxy-udp-ipv4', 'ok', 'tproxy UDP IPv4: tproxy 198.51.100.7:80'],
        ['self-test-redirect-tcp-ipv6', 'ok', 'redirect TCP IPv6: redirect [2001:db8:2::7]:80'],
        ['self-test-tproxy-tcp-ipv6', 'ok', 'tproxy TCP IPv6: tproxy [2001:db8:2::7]:80'],
        ['self-test-redirect-udp-ipv6', 'ok', 'redirect UDP IPv6: redirect [2001:db8:2::7]:80'],
        ['self-test-tproxy-udp-ipv6', 'ok', 'tproxy UDP IPv6: tproxy [2001:db8:2::7]:80'],
      ],
    );
  });

  t.test('rules to the wrong port', async (t) => {
    const port = await listen(t, false, '::');
    redirectTo(port === 9 ? 10 : 9);
    t.match(await said('rules', { port }), [{ level: 'problem', title: `no rule leads to port ${port}` }]);
    t.match(await said('listener'), [{ level: 'problem', title: 'nobody listens at port 9' }]);
  });

  t.test('no rules, and rules that catch nothing', async (t) => {
    nft('flush ruleset');
    const port = await listen(t, false, '::');
    t.match(await said('rules', { port }), [{ level: 'problem' }]);
    redirectTo(port);
    t.match(await said('rules-counters', { port }), [{ level: 'warning' }]);
  });

  t.test('listener of the other family', async (t) => {
    nft(`flush ruleset
      table ip6 t {
        chain o {
          type nat hook output priority -100
          tcp dport 80 redirect to :${await listen(t, false, '0.0.0.0')}
        }
      }`);
    t.match(await said('listener'), [{ level: 'problem', title: /does not take IPv6/ }]);
  });

  t.test('listener not transparent, transparent', async (t) => {
    const port = await listen(t, false, '::');
    tproxyTo(port);
    t.match(await said('listener-transparent'), [{ level: 'problem' }]);
    const other = await listen(t, true, '::');
    tproxyTo(other);
    t.match(await said('listener-transparent'), [{ level: 'ok' }]);
  });

  t.test('routing rule missing, its table empty, both there', async (t) => {
    const port = await listen(t, true, '0.0.0.0');
    tproxyTo(port);
    const [missing] = await said('policy-routing-ipv4');
    t.match(missing, { level: 'problem', title: 'no routing rule for mark 1337' });
    t.same(await said('policy-routing-ipv6'), [], 'the rule is for IPv4 only');
    sh('ip rule add fwmark 1337 lookup 133');
    const [empty] = await said('policy-routing-ipv4');
    t.match(empty, { level: 'problem', title: /its table has no local route/ });
    sh(empty!.remedy!);
    t.match(await said('policy-routing-ipv4'), [{ level: 'ok' }], 'the remedy is one');
    sh('ip rule del fwmark 1337; ip route flush table 133');
    sh(missing!.remedy!);
    t.match(await said('policy-routing-ipv4'), [{ level: 'ok' }], 'so is the other');
    // As this package writes it: with a mask, a protocol of its own, in a table with a number.
    sh('ip rule del fwmark 1337; ip rule add fwmark 1337/0xffff lookup 134 protocol 143 priority 13370');
    const [own] = await said('policy-routing-ipv4');
    sh(own!.remedy!);
    t.match(await said('policy-routing-ipv4'), [{ level: 'ok' }]);
    // An exit node's rule for everything.
    sh('ip route add default dev lo table 52; ip rule add lookup 52 priority 5270');
    const [earlier] = await said('policy-routing-ipv4');
    t.match(earlier, { level: 'problem', title: /an earlier one takes its packets: 5270 \(table 52\)$/ });
    sh(earlier!.remedy!);
    t.match(await said('policy-routing-ipv4'), [{ level: 'ok' }]);
    sh('ip rule del priority 5270; ip rule del priority 5269; ip rule del priority 13370');
  });

  t.test('settings of the network', async (t) => {
    tproxyTo(await listen(t, true, '0.0.0.0'));
    sh('ip link add veth0 type veth peer name veth1 && ip link set veth0 up');
    const set = (name: string, value: number) => writeFileSync(`/proc/sys/net/ipv4/conf/${name}`, `${value}`);
    for (const device of ['all', 'veth0', 'veth1']) set(`${device}/rp_filter`, 0);
    t.match(await said('rp-filter'), [{ level: 'ok' }]);
    set('veth0/rp_filter', 1);
    const healed = async (id: string, subject: Subject = {}): Promise<void> => {
      const [found] = await said(id, subject);
      sh(found!.remedy!);
      t.match(await said(id, subject), [{ level: 'ok' }], `the remedy of ${id}`);
    };
    t.match(await said('rp-filter'), [{ level: 'warning', title: /on veth0$/ }]);
    await healed('rp-filter');
    for (const device of ['all', 'veth0']) set(`${device}/rp_filter`, device === 'all' ? 0 : 1);
    set('all/rp_filter', 2);
    t.match(await said('rp-filter'), [{ level: 'ok' }], 'the larger one counts');
    set('veth1/src_valid_mark', 1);
    t.match(await said('src-valid-mark'), [{ level: 'problem', title: /for veth1$/ }]);
    await healed('src-valid-mark');
    set('veth1/route_localnet', 1);
    t.match(await said('route-localnet'), [{ level: 'warning', title: /for veth1$/ }]);
    await healed('route-localnet');
    writeFileSync('/proc/sys/net/ipv4/ip_forward', '0');
    t.match(await said('ip-forward', { direction: 'gateway' }), [{ level: 'problem' }]);
    await healed('ip-forward', { direction: 'gateway' });
    t.match(
      await said('ipv6-bypass'),
      [{ level: 'warning' }],
      'a rule for IPv4 only, a default route for both',
    );
  });

  t.test('DNAT to 127.0.0.1', async (t) => {
    nft(`flush ruleset
      table ip t {
        chain p {
          type nat hook prerouting priority -100
          tcp dport 80 dnat to 127.0.0.1:15001
        }
      }`);
    const [found] = await said('route-localnet');
    t.match(found, { level: 'problem', title: /does not allow$/ });
    sh(found!.remedy!);
    t.match(await said('route-localnet'), [{ level: 'ok', title: 'on, and needed' }]);
    nft('flush ruleset');
  });

  t.test('iptables of both kinds', async (t) => {
    redirectTo(1);
    sh('iptables-legacy -t nat -A OUTPUT -p tcp --dport 81 -j REDIRECT --to-ports 2');
    t.match(await said('iptables-backends'), [{ level: 'warning' }]);
    t.match(await said('rules'), [{ detail: /port 1 in inet t \/ o.*port 2 in nat \/ OUTPUT/ }]);
    sh('iptables-legacy -t nat -F');
    nft('flush ruleset');
    sh('ip6tables-nft -t nat -A OUTPUT -p tcp --dport 81 -j REDIRECT --to-ports 3');
    t.match(await said('rules'), [{ detail: /^redirect to port 3 in nat \/ OUTPUT/ }]);
    nft('flush ruleset');
  });

  t.test('a rule of nft’s own in a table of iptables', async (t) => {
    sh('iptables-nft -t nat -A OUTPUT -p tcp --dport 81 -j REDIRECT --to-ports 3');
    nft('add rule ip nat OUTPUT tcp dport 82 dnat to numgen inc mod 2 map { 0 : 192.0.2.8, 1 : 192.0.2.9 }');
    const [found] = await said('iptables-backends');
    t.match(found, { level: 'warning', title: 'iptables cannot show its table ip nat' });
    const [, handle] = /numgen.*# handle (\d+)/.exec(sh(found!.remedy!))!;
    nft(`delete rule ip nat OUTPUT handle ${handle}`);
    t.notMatch(await said('iptables-backends'), [{ title: /cannot show/ }]);
    nft('flush ruleset');
  });

  t.test('connections that conntrack does not see', async (t) => {
    redirectTo(1);
    nft(`table inet n {
      chain o {
        type filter hook output priority raw
        notrack
      }
      chain p {
        type filter hook prerouting priority raw
        notrack
      }
    }`);
    sh('conntrack -F'); // what was tracked before
    t.match(await said('conntrack'), [{ level: 'warning', title: /not tracked although rules redirect/ }]);
    nft('flush ruleset');
  });

  t.test('no capabilities', async (t) => {
    const findings = doctorBehind('setpriv', '--bounding-set=-net_admin,-net_raw');
    const of = (id: string) => findings.filter((finding) => finding.id === id);
    t.match(of('capabilities'), [
      { level: 'warning', detail: /neither CAP_NET_ADMIN nor CAP_NET_RAW.*EPERM/ },
    ]);
    t.match(of('rules'), [{ level: 'warning', title: 'the rules cannot be read' }]);
  });

  t.test('capabilities of another user namespace', async (t) => {
    const of = doctorBehind('unshare', '-Ur').find(({ id }) => id === 'capabilities');
    t.match(of, {
      level: 'warning',
      detail: /CAP_NET_ADMIN and CAP_NET_RAW; setsockopt IP_TRANSPARENT EPERM/,
    });
  });

  t.test('no scratch namespace', async (t) => {
    writeFileSync('/proc/sys/user/max_net_namespaces', '0');
    const [untried] = await said('tproxy-ipv4');
    t.match(untried, { level: 'warning', title: /was not tried/ });
    sh(untried!.remedy!);
    t.match(await said('tproxy-ipv4'), [{ level: 'ok' }]);
  });

  t.test('the self-test without nft', async (t) => {
    const inside = fileURLToPath(import.meta.resolve('../../lib/doctor/self-test-inside.js'));
    const without = 'mount --bind /dev/null "$(command -v nft)" && exec "$@"';
    const args = ['-Urnm', 'sh', '-c', without, 'sh', process.execPath, inside];
    const trials = JSON.parse(execFileSync('unshare', args, { encoding: 'utf8' })) as Trial[];
    t.equal(trials.length, 8);
    for (const { id, error } of trials) t.equal(error, 'spawnSync /usr/bin/nft ENOENT', id);
  });

  // Last: it leaves a table full of entries.
  t.test('the conntrack table is full', async (t) => {
    const max = Number(readFileSync('/proc/sys/net/netfilter/nf_conntrack_max', 'utf8'));
    // The limit is the machine's and read-only in here; filling a larger table takes too long.
    if (max > 300_000) return void t.pass('skipped', { skip: `nf_conntrack_max is ${max}` });
    redirectTo(await listen(t, false, '::'));
    let entries = '';
    for (let i = 0; i <= max; i++) {
      const [host, port] = [i >> 14, 1024 + (i & 16383)];
      entries += `-I -s 10.0.${host}.1 -d 10.9.9.9 -p udp --sport ${port} --dport 53 -t 600 -u ASSURED\n`;
    }
    writeFileSync('/run/entries', entries);
    const { stderr } = spawnSync('conntrack', ['-R', '/run/entries'], { encoding: 'utf8' });
    t.match(stderr, /not enough memory/, 'the last one does not fit');
    t.match(await said('conntrack-table'), [
      { level: 'problem', title: `the conntrack table is full: ${max} of ${max} entries` },
    ]);
    const curl = spawnSync('curl', ['-s', '-m', '1', 'http://198.51.100.7/']);
    t.equal(curl.status, 28, 'and connections time out');
    const [full] = await said('conntrack-table');
    t.match(full!.detail, /[1-9]\d* packets dropped/, 'which is counted');
    sh('conntrack -F');
    t.match(await said('conntrack-table'), [{ level: 'warning', title: /has been full/ }]);
  });
});
