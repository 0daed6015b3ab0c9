// A gateway whose destinations somebody else translates too (port forwarding, a load balancer's virtual address):
// connections reach the proxy all the same, whole.
import t from 'tap';
import { apply, planRules, remove, type RulesConfig } from '../../lib/rules/index.ts';
import { inNamespace, nft } from '../fixtures/netns.ts';
import { Network } from '../fixtures/rule-network.ts';

const direction = { mode: 'tproxy', port: 15002 } as const;
const CONFIGS: Record<string, RulesConfig> = {
  gateway: { gateway: direction },
  inbound: { inbound: { ...direction, scope: 'any' } },
};

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const network = await Network.start();
    t.teardown(() => network.stop());
    nft(`
      table inet elsewhere {
        chain forwarding {
          type nat hook prerouting priority dstnat; policy accept;
          ip daddr 203.0.113.5 tcp dport 80 dnat ip to 198.51.100.10:8080
          ip6 daddr 2001:db8:2::5 tcp dport 80 dnat ip6 to [2001:db8:1::10]:8080
        }
      }
    `);
    for (const [name, config] of Object.entries(CONFIGS)) {
      const plan = planRules(config);
      for (const backend of ['nftables', 'iptables'] as const) {
        t.test(`${name}, ${backend}`, async (t) => {
          await apply(plan, { backend });
          t.teardown(() => remove(plan.name));
          const arrivals = await network.sendAll([
            { by: 'client', protocol: 'tcp', source: '10.1.0.2', destination: '203.0.113.5', port: 80 },
            { by: 'client', protocol: 'tcp', source: 'fd01::2', destination: '2001:db8:2::5', port: 80 },
          ]);
          t.same(arrivals, ['15002', '15002'], 'what the client sent after the handshake arrived');
        });
      }
    }
  },
  { root: true },
);
