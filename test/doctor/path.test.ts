// What keeps packets from a proxy although its rules and its listener are right: each cause is made, named by the
// doctor, and mended by its remedy.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { iptablesFilters } from '../../lib/doctor/found-filters.ts';
import { diagnose, type DiagnoseOptions, type Finding } from '../../lib/doctor/index.ts';
import { createServer } from '../../lib/index.ts';
import { fakeHost } from '../fixtures/fake-host.ts';
import { takenAhead } from '../../lib/doctor/found-ahead.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';

const PORT = 15001;

async function said(id: string, options: DiagnoseOptions = { port: PORT }): Promise<Finding[]> {
  return (await diagnose(options)).filter((finding) => finding.id === id);
}

/** A machine behind this one, `pod`, by way of an interface without an address: `cable`. */
function pod(): void {
  sh(`
    ip addr add 192.0.2.1/32 dev lo
    ip netns add pod
    ip link add cable type veth peer name eth0 netns pod
    ip link set cable up
    ip -n pod link set eth0 up
    ip -n pod addr add 10.65.0.2/32 dev eth0
    ip -n pod route add 169.254.1.1 dev eth0 scope link
    ip -n pod route add default via 169.254.1.1
    ip route add 10.65.0.2 dev cable
    ip route add default dev lo
    echo 1 > /proc/sys/net/ipv4/conf/cable/proxy_arp
    echo 1 > /proc/sys/net/ipv4/ip_forward
  `);
}

/** Does a connection of the pod reach the proxy? */
async function arrives(): Promise<boolean> {
  const connect = `require('net').connect(80, '198.51.100.7')
    .on('data', () => process.exit(0)).on('error', () => process.exit(1)).setTimeout(700, () => process.exit(2))`;
  const client = spawnChild('ip', ['netns', 'exec', 'pod', process.execPath, '-e', connect]);
  return (await client) === 0;
}

async function spawnChild(command: string, args: string[]): Promise<number | null> {
  const [code] = (await once(spawn(command, args, { env: unmeasured, stdio: 'ignore' }), 'exit')) as [
    number | null,
  ];
  return code;
}

async function listen(t: Test, transparent: boolean): Promise<void> {
  const server = createServer({ transparent }, (socket) => socket.on('error', () => {}).end('proxy'));
  server.listen(PORT);
  await once(server, 'listening');
  t.teardown(() => server.close());
}

const redirect = `
  table ip t {
    chain p {
      type nat hook prerouting priority -100
      iifname "cable" tcp dport 80 redirect to :${PORT}
    }
  }`;
const tproxy = `
  table ip t {
    chain p {
      type filter hook prerouting priority mangle
      iifname "cable" tcp dport 80 tproxy to :${PORT} meta mark set 1337 accept
    }
  }`;

await inNamespace(t, import.meta.url, async () => {
  pod();

  await t.test('REDIRECT at an interface without an address', async (t) => {
    await listen(t, false);
    nft(redirect);
    t.notOk(await arrives());
    const [found] = await said('interfaces');
    t.match(found, { level: 'problem', title: 'cable has no IPv4 address' });
    sh(found!.remedy!);
    t.same(await said('interfaces'), []);
    t.ok(await arrives());
    t.match(await said('firewall'), [{ level: 'ok' }]);
  });

  await t.test('rules for an interface that does not exist', async (t) => {
    nft(`flush ruleset; ${redirect.replace('"cable"', '{ "cable", "wlan*" }')}`);
    t.match(await said('interfaces'), [{ level: 'warning', title: 'there is no interface wlan*' }]);
    nft(`flush ruleset`);
    sh(`iptables -t nat -A PREROUTING -i wlan+ -p tcp --dport 80 -j REDIRECT --to-ports ${PORT}`);
    t.match(await said('interfaces'), [{ level: 'warning', title: 'there is no interface wlan*' }]);
    sh('iptables -t nat -F');
  });

  for (const [mode, rules] of Object.entries({ redirect, tproxy })) {
    for (const [kind, make, undo] of [
      [
        'nftables, policy',
        'nft "add table inet f; add chain inet f i { type filter hook input priority 0; policy drop; }; add rule inet f i tcp dport 22 accept"',
        'nft delete table inet f',
      ],
      [
        'nftables, last rule',
        'nft "add table ip f; add chain ip f i { type filter hook input priority 0; }; add rule ip f i counter reject"',
        'nft delete table ip f',
      ],
      ['iptables, policy', 'iptables -P INPUT DROP', 'iptables -P INPUT ACCEPT; iptables -F'],
      ['iptables, last rule', 'iptables -A INPUT -j DROP', 'iptables -F'],
      [
        'iptables-legacy',
        'iptables-legacy -P INPUT DROP',
        'iptables-legacy -P INPUT ACCEPT; iptables-legacy -F',
      ],
    ] as const) {
      await t.test(`a firewall: ${mode}, ${kind}`, async (t) => {
        await listen(t, mode === 'tproxy');
        nft(`flush ruleset; ${rules}`);
        sh('ip rule add fwmark 1337 lookup 133; ip route add local default dev lo table 133');
        sh(make);
        t.teardown(() => sh(`${undo}; ip rule del fwmark 1337; ip route flush table 133`));
        t.notOk(await arrives());
        const [found] = await said('firewall');
        t.match(found, {
          level: 'warning',
          title: /and no rule of its table accepts (port 15001|the mark 1337)$/,
        });
        sh(found!.remedy!);
        t.ok(await arrives());
        t.match(await said('firewall'), [{ level: 'ok' }]);
      });
    }
  }

  await t.test('what the proxy dials is dropped', async (t) => {
    nft(`flush ruleset; ${redirect}
      table inet f {
        chain o {
          type filter hook output priority 0; policy drop;
        }
      }`);
    t.match(await said('firewall'), [{ level: 'warning', title: /^inet f \/ o drops/ }]);
    nft('flush ruleset');
  });

  await t.test('somebody else’s rule comes first', async (t) => {
    nft(`flush ruleset; ${redirect}
      table ip other {
        chain p {
          type nat hook prerouting priority -110
          tcp dport 80 redirect to :8080
        }
      }`);
    t.match(await said('rules-order'), [
      { level: 'warning', title: `redirect in ip other / p comes before the rules for port ${PORT}` },
    ]);
    t.same(await said('rules-order', { port: 8080 }), [], 'not the other way round');
    nft('flush ruleset');
  });

  for (const [what, ahead] of [
    ['a rule', 'iptables -t nat -I PREROUTING -p tcp -j ACCEPT'],
    [
      'a chain',
      'iptables -t nat -N OTHER; iptables -t nat -A OTHER -p tcp -j ACCEPT; iptables -t nat -I PREROUTING -j OTHER',
    ],
  ] as const) {
    await t.test(`${what} of another’s takes all first, iptables`, async (t) => {
      await listen(t, false);
      sh(`iptables -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports ${PORT}`);
      t.ok(await arrives());
      t.same(await said('rules-order'), []);
      sh(ahead);
      t.notOk(await arrives());
      const [found] = await said('rules-order');
      t.match(found, { level: 'problem', title: /^iptables: a rule of table nat takes every connection/ });
      sh(found!.remedy!);
      t.ok(await arrives(), 'healed');
      t.same(await said('rules-order'), []);
      nft('flush ruleset');
    });
  }
});

t.test('ports and marks that iptables accepts', async (t) => {
  const saved = (...lines: string[]) => `*filter\n:INPUT DROP [0:0]\n${lines.join('\n')}\nCOMMIT\n`;
  const [found] = iptablesFilters(
    saved(
      '-A INPUT -p tcp -m tcp --dport 15001 -j ACCEPT',
      '-A ufw-user-input -p tcp -m multiport --dports 80,443 -j ACCEPT',
      '-A INPUT -m mark --mark 0x539 -j ACCEPT',
      '-A INPUT -p tcp -m tcp --dport 23 -j DROP',
    ),
    6,
    'ip6tables',
  );
  t.match(found, { acceptedPorts: [15001, 80, 443], acceptedMarks: [1337], insert: 'ip6tables -I INPUT' });
  t.same(iptablesFilters('*nat\nCOMMIT\n', 4, 'iptables'), []);
});

/** A machine with these objects in its nftables, and these interfaces. */
function machine(nftables: unknown[], links?: unknown[]): DiagnoseOptions {
  const commands = {
    'nft -j list ruleset': { stdout: JSON.stringify({ nftables }) },
    'ip -j addr': links === undefined ? { status: 1 } : { stdout: JSON.stringify(links) },
  };
  return { host: fakeHost({ commands }), port: PORT };
}

const chain = (more: object) => ({
  chain: { family: 'inet', table: 't', name: 'c', hook: 'prerouting', ...more },
});
const rule = (...expr: object[]) => ({ rule: { family: 'inet', table: 't', chain: 'c', expr } });
const iif = (right: unknown) => ({ match: { op: '==', left: { meta: { key: 'iifname' } }, right } });

t.test('interfaces', async (t) => {
  const named = [chain({}), rule(iif('a'), { redirect: { port: PORT } })];
  t.same(await said('interfaces', machine(named)), [], 'ip(8) says nothing');
  t.match(await said('interfaces', machine(named, [{ ifname: 'b', addr_info: [] }])), [
    { title: 'there is no interface a' },
  ]);
  const four = { ifname: 'a', addr_info: [{ family: 'inet' }] };
  t.same(await said('interfaces', machine(named, [four])), [], 'IPv6 it has by itself');
  const bare = { ifname: 'a', addr_info: [] };
  t.match(await said('interfaces', machine(named, [bare])), [{ title: 'a has no IPv4 address' }]);
  const tproxied = [chain({}), rule(iif({ set: ['a'] }), { tproxy: { port: PORT } })];
  t.same(await said('interfaces', machine(tproxied, [bare])), [], 'TPROXY needs none');
  const elsewhere = [chain({ hook: 'output' }), rule(iif(5), { redirect: { port: PORT } })];
  t.same(await said('interfaces', machine(elsewhere, [bare])), []);
});

t.test('order within a chain of iptables', async (t) => {
  const saved = (...lines: string[]): string => `*nat\n${lines.join('\n')}\nCOMMIT\n`;
  const own = '-A OUTPUT -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 15001';
  const titles = (...lines: string[]): string[] => takenAhead(saved(...lines), PORT).map(({ rule }) => rule);
  t.same(titles(own, '-A OUTPUT -j ACCEPT'), [], 'behind it');
  t.same(titles('-A OUTPUT -d 192.0.2.1/32 -j ACCEPT', own), [], 'some of them');
  t.same(titles('-A OUTPUT -m comment --comment "x" -j RETURN', own), [
    'OUTPUT -m comment --comment "x" -j RETURN',
  ]);
  t.same(titles('-A OUTPUT -j DNAT --to-destination 192.0.2.1:8080', own).length, 1, 'another’s port');
  t.same(titles('-A OUTPUT -j X', '-A X -j Y', '-A Y -j X', own), [], 'round and round');
  t.same(titles('-A OUTPUT -j X', '-A X -j RETURN', own), [], 'comes back');
  t.same(titles('-A OUTPUT -j X', `-A X -p tcp -j DNAT --to-destination 127.0.0.1:${PORT}`), []);
  t.same(titles('-A OUTPUT -j ACCEPT'), [], 'no rule leads there');
});

t.test('order', async (t) => {
  const own = [chain({ prio: 0 }), rule({ redirect: { port: PORT } })];
  const other = { chain: { family: 'ip', table: 'o', name: 'c', hook: 'prerouting', prio: -1 } };
  const keeps = { rule: { family: 'ip', table: 'o', chain: 'c', expr: [{ dnat: { addr: '192.0.2.1' } }] } };
  t.match(await said('rules-order', machine([...own, other, keeps])), [{ detail: /goes to where it says/ }]);
});

t.test('firewalls', async (t) => {
  const own = [chain({ prio: 0 }), rule({ redirect: { port: PORT } }), rule({ redirect: null })];
  const filter = (more: object) =>
    chain({ name: 'f', type: 'filter', hook: 'input', policy: 'drop', ...more });
  t.match(await said('firewall', machine([...own, filter({})])), [
    { level: 'warning', title: /port 15001$/ },
  ]);
  t.match(
    await said('firewall', machine([...own, filter({ family: 'bridge' })])),
    [{ level: 'ok' }],
    'no IP',
  );
  t.match(await said('firewall', machine([...own, filter({ policy: 'accept' })])), [{ level: 'ok' }]);
  const open = rule(
    {
      match: { op: '==', left: { payload: { protocol: 'tcp', field: 'dport' } }, right: { set: [22, PORT] } },
    },
    { accept: null },
  );
  t.match(await said('firewall', machine([...own, filter({}), open])), [{ level: 'ok' }]);
  const unmarked = [chain({}), rule({ tproxy: { port: PORT } })];
  t.match(
    await said('firewall', machine([...unmarked, filter({})])),
    [{ level: 'ok' }],
    'by which mark is not known',
  );
  const keeping = [rule({ redirect: null }), filter({})]; // of a chain that was not listed, to the same port
  t.match(await said('firewall', { host: machine(keeping).host! }), [{ level: 'ok' }]);
  const kept = [chain({}), ...keeping];
  t.match(await said('firewall', { host: machine(kept).host! }), [{ level: 'ok' }], 'any port');
  const nothing = await said('firewall', { host: fakeHost({}) });
  t.same(nothing, [], 'no rules');
});
