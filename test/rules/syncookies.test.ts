// A host that answers SYN by cookie, as under a flood: no socket knows a connection before its third packet, which must
// find the listener by the rules alone.
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { apply, planRules, remove, type RulesConfig } from '../../lib/rules/index.ts';
import { inNamespace } from '../fixtures/netns.ts';
import type { Flow } from '../fixtures/rule-model.ts';
import { Network } from '../fixtures/rule-network.ts';

const CONFIGS: Record<string, [RulesConfig, Flow[], string]> = {
  gateway: [
    { gateway: { mode: 'tproxy', port: 15002 } },
    [
      { by: 'client', protocol: 'tcp', source: '10.1.0.2', destination: '203.0.113.5', port: 80 },
      { by: 'client', protocol: 'tcp', source: 'fd01::2', destination: '2001:db8:2::5', port: 80 },
    ],
    '15002',
  ],
  inbound: [
    { inbound: { mode: 'tproxy', port: 15006 } },
    [
      { by: 'client', protocol: 'tcp', source: '10.1.0.2', destination: '10.1.0.1', port: 80 },
      { by: 'client', protocol: 'tcp', source: 'fd01::2', destination: 'fd01::1', port: 80 },
    ],
    '15006',
  ],
  outbound: [
    { outbound: { mode: 'tproxy', port: 15001 }, exempt: { uids: [1337] } },
    [
      { by: 'program', protocol: 'tcp', source: '10.2.0.1', destination: '203.0.113.5', port: 80 },
      { by: 'program', protocol: 'tcp', source: 'fd02::1', destination: '2001:db8:2::5', port: 80 },
    ],
    '15001',
  ],
};

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const network = await Network.start();
    t.teardown(() => network.stop());
    writeFileSync('/proc/sys/net/ipv4/tcp_syncookies', '2');
    for (const backend of ['nftables', 'iptables'] as const) {
      for (const [name, [config, flows, port]] of Object.entries(CONFIGS)) {
        t.test(`${name}, ${backend}`, async (t) => {
          t.teardown(() => remove('default'));
          await apply(planRules(config), { backend });
          t.same(await network.sendAll(flows), [port, port]);
        });
      }
    }
  },
  { root: true },
);
