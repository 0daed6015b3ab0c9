// A client that was sent RST comes again from the same port, while conntrack still remembers the connection before.
// It takes the SYN for a packet of that one (net/netfilter/nf_conntrack_proto_tcp.c: a closed connection is reopened
// only for the side that closed it), and what is "known" goes past the listener.
import { once } from 'node:events';
import t from 'tap';
import { createServer } from '../../lib/index.ts';
import { apply, planRules, remove, sidecar, type RulesConfig } from '../../lib/rules/index.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { buildPod, FAMILIES, refused } from '../fixtures/pod.ts';

const PORT = 8080;
const LISTENER = 15006;

const name = 'reuse';
const configs: Record<string, RulesConfig> = {
  'inbound, TPROXY': { name, inbound: { mode: 'tproxy', port: LISTENER } },
  'inbound, REDIRECT': { name, inbound: { mode: 'redirect', port: LISTENER } },
  'gateway, TPROXY': { name, gateway: { mode: 'tproxy', port: LISTENER } },
  'the preset sidecar': sidecar({ name, inbound: 'tproxy' }),
};

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const { client } = await buildPod(t);
    let passed = 0;
    const program = createServer(() => passed++).listen(PORT, '::');
    const proxy = createServer({ transparent: true }, (socket) => socket.resetAndDestroy());
    proxy.listen(LISTENER, '::');
    await Promise.all([once(program, 'listening'), once(proxy, 'listening')]);
    t.teardown(() => Promise.all([program.close(), proxy.close()]));

    // Another for each configuration: also NAT leaves alone what conntrack remembers without it.
    let localPort = 40_000;
    for (const [direction, config] of Object.entries(configs)) {
      for (const backend of ['nftables', 'iptables'] as const) {
        await t.test(`${direction}, ${backend}`, async (t) => {
          localPort++;
          const plan = planRules(config);
          await apply(plan, { backend });
          t.teardown(() => remove(plan.name));
          for (const { pod, away } of Object.values(FAMILIES)) {
            const host = config.gateway ? away(9) : pod;
            for (const time of ['first', 'second', 'third']) {
              const end = await refused((to) => client.dial(to), { host, port: PORT, localPort });
              t.equal(end, 'ECONNRESET', `${host}, ${time} time`);
            }
          }
          t.equal(passed, 0, 'nobody got past the proxy');
        });
      }
    }
  },
  { root: true },
);
