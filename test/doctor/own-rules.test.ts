// The package's own rules, in both back-ends, on hosts that are broken on purpose: the doctor names the cause, and what it
// tells to do heals it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { bridges } from '../../lib/doctor/checks/bridges.ts';
import { cgroupExemption } from '../../lib/doctor/checks/cgroup-exemption.ts';
import { firewall } from '../../lib/doctor/checks/firewall.ts';
import { interfaces } from '../../lib/doctor/checks/interfaces.ts';
import { rules } from '../../lib/doctor/checks/rules.ts';
import { type Check, Context } from '../../lib/doctor/context.ts';
import { thisHost } from '../../lib/doctor/host.ts';
import type { Finding } from '../../lib/doctor/index.ts';
import { apply, planRules, remove, type RulesConfig } from '../../lib/rules/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import type { Flow } from '../fixtures/rule-model.ts';
import { makeBridge, Network } from '../fixtures/rule-network.ts';

const PARENT = `original-dst-doctor-${process.pid}`;
const CGROUP = `/sys/fs/cgroup/${PARENT}/proxy.service`;
const GATEWAY = 15002;

/** The one check that can have findings of that name: a whole diagnosis takes half a second. */
const CHECKS: Record<string, Check> = {
  firewall,
  interfaces,
  'bridge-ipv4': bridges,
  'bridge-ipv6': bridges,
  'cgroup-exemption': cgroupExemption,
  'rules-counters': rules,
};

async function said(id: string): Promise<Finding[]> {
  return (await CHECKS[id]!(new Context(thisHost, {}))).filter((finding) => finding.id === id);
}

const gateway = (mode: 'redirect' | 'tproxy', more: object = {}): RulesConfig => ({
  gateway: { mode, port: GATEWAY, protocols: ['tcp'], ...more },
});

const four: Flow = {
  by: 'client',
  protocol: 'tcp',
  source: '10.1.0.2',
  destination: '203.0.113.5',
  port: 80,
};
const six: Flow = { ...four, source: 'fd01::2', destination: '2001:db8:2::5' };

/** Who answers the client at its neighbour's address. */
function neighbour(): string {
  return sh('ip netns exec client curl -s -m 5 --http0.9 http://10.1.0.3/ || :');
}

function callIptables(value: 0 | 1): void {
  for (const family of ['', '6'])
    writeFileSync(`/proc/sys/net/bridge/bridge-nf-call-ip${family}tables`, `${value}\n`);
}

await inNamespace(
  t,
  import.meta.url,
  async () => {
    sh('umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup');
    mkdirSync(CGROUP, { recursive: true });
    t.teardown(() => {
      rmdirSync(CGROUP);
      rmdirSync(`/sys/fs/cgroup/${PARENT}`);
    });
    const network = await Network.start();
    t.teardown(() => network.stop());

    for (const backend of ['nftables', 'iptables'] as const) {
      const install = async (config: RulesConfig): Promise<void> => {
        await remove('default');
        await apply(planRules(config), { backend });
      };

      t.test(`${backend}: no packet meets the rules`, async (t) => {
        for (const mode of ['redirect', 'tproxy'] as const) {
          await install(gateway(mode));
          t.match(
            await said('rules-counters'),
            [{ level: 'warning', title: /^no packet has matched/ }],
            mode,
          );
          t.equal((await network.sendAll([four]))[0], `${GATEWAY}`);
          t.match(await said('rules-counters'), [{ level: 'ok' }], mode);
        }
      });

      t.test(`${backend}: the cgroup of a service that was started again`, async (t) => {
        await install({
          outbound: { mode: 'redirect', port: 15001 },
          exempt: { uids: [1337], cgroups: [`${PARENT}/proxy.service`] },
        });
        t.match(await said('cgroup-exemption'), [{ level: 'ok' }]);
        rmdirSync(CGROUP);
        mkdirSync(CGROUP);
        const found = await said('cgroup-exemption');
        t.equal(found.length, 2, 'IPv4 and IPv6');
        t.match(found[0], {
          level: 'problem',
          title: /cgroup that is no more/,
          detail: /Apply the rules again/,
        });
        await install({
          outbound: { mode: 'redirect', port: 15001 },
          exempt: { uids: [1337], cgroups: [`${PARENT}/proxy.service`] },
        });
        t.match(await said('cgroup-exemption'), [{ level: 'ok' }]);
      });

      t.test(`${backend}: a firewall, and an interface without an address`, async (t) => {
        await install(gateway('redirect', { include: { interfaces: ['lan0'] } }));
        sh('ip addr flush dev lan0');
        const [bare] = await said('interfaces');
        t.match(bare, { level: 'problem', title: 'lan0 has no IPv4 address' });
        sh(bare!.remedy!);
        t.same(await said('interfaces'), []);
        sh('ip addr flush dev lan0; ip addr add 10.1.0.1/24 dev lan0; ip addr add fd01::1/64 dev lan0 nodad');
        sh('nft "add table inet f; add chain inet f i { type filter hook input priority 0; policy drop; }"');
        t.teardown(() => sh('nft delete table inet f'));
        const [shut] = await said('firewall');
        t.match(shut, { level: 'warning', title: new RegExp(`accepts port ${GATEWAY}$`) });
        sh(shut!.remedy!);
        t.match(await said('firewall'), [{ level: 'ok' }]);
      });
    }

    t.test('bridges', async (t) => {
      await remove('default');
      makeBridge();
      // A neighbour at another port of it.
      sh(`
        ip netns add neighbour
        ip link add port type veth peer name eth0 netns neighbour
        ip link set port master br0 up
        ip -n neighbour addr add 10.1.0.3/24 dev eth0
        ip -n neighbour link set eth0 up
      `);
      const server = spawn('ip', [
        'netns',
        'exec',
        'neighbour',
        process.execPath,
        '-e',
        `require('net').createServer((s) => s.on('error', () => {}).end('server')).listen(80, () => console.log())`,
      ]);
      t.teardown(() => server.kill());
      await once(server.stdout, 'data');
      for (const backend of ['nftables', 'iptables'] as const) {
        callIptables(0);
        await apply(planRules(gateway('tproxy')), { backend });
        t.same(await said('bridge-ipv4'), [], 'a bridge alone does no harm');
        callIptables(1);
        const [deaf4, deaf6] = [...(await said('bridge-ipv4')), ...(await said('bridge-ipv6'))];
        t.match(deaf4, { level: 'problem', title: /^TPROXY gets no IPv4.*bridge-nf-call-iptables.*br0/ });
        t.match(deaf6, { level: 'problem', title: /^TPROXY gets no IPv6/ });
        sh(`${deaf4!.remedy}; ${deaf6!.remedy}`);
        t.same(await network.sendAll([four, six]), [`${GATEWAY}`, `${GATEWAY}`], 'healed');
        t.same([...(await said('bridge-ipv4')), ...(await said('bridge-ipv6'))], []);

        sh('ip link set dev br0 type bridge nf_call_iptables 1');
        const [alone] = await said('bridge-ipv4');
        t.match(alone, { title: /nf_call_iptables of the bridge br0/ });
        sh(alone!.remedy!);
        t.same(await said('bridge-ipv4'), []);

        await remove('default');
        await apply(planRules(gateway('redirect')), { backend });
        callIptables(1);
        t.not(neighbour(), 'server', 'between neighbours');
        const [greedy] = await said('bridge-ipv4');
        t.match(greedy, {
          level: 'warning',
          title: /^REDIRECT also catches IPv4 connections within a bridge/,
        });
        sh(greedy!.remedy!);
        t.equal(neighbour(), 'server', 'healed');
        t.same(await said('bridge-ipv4'), []);

        callIptables(1);
        await apply(planRules(gateway('redirect', { exclude: { interfaces: ['br*'] } })), { backend });
        t.same(await said('bridge-ipv4'), [], 'the bridge is left alone');
        await apply(planRules(gateway('redirect', { include: { interfaces: ['br0'] } })), { backend });
        t.match(await said('bridge-ipv4'), [{ level: 'warning' }], 'the bridge is named');
        await apply(planRules({ inbound: { mode: 'redirect', port: GATEWAY } }), { backend });
        t.same(await said('bridge-ipv4'), [], 'only what is for this host');
        await remove('default');
      }
    });
  },
  { root: true },
);
