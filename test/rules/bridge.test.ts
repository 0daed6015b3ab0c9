// A client behind a bridge of this host. With br_netfilter the bridge runs PREROUTING itself: TPROXY gets nothing, which
// apply and verify must say, and say only then.
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { apply, applyCommands, planRules, remove, verify, type RulesConfig } from '../../lib/rules/index.ts';
import { bridgeInTheWay } from '../../lib/rules/install/bridges.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import type { Flow } from '../fixtures/rule-model.ts';
import { makeBridge, Network } from '../fixtures/rule-network.ts';

const gateway = (more: Partial<NonNullable<RulesConfig['gateway']>>, families?: ['IPv4' | 'IPv6']) =>
  planRules({
    gateway: { mode: 'tproxy', port: 15002, ...more },
    ...(families ? { families } : {}),
  });

function callIptables(family: 4 | 6, value: 0 | 1): void {
  writeFileSync(`/proc/sys/net/bridge/bridge-nf-call-ip${family === 4 ? '' : '6'}tables`, `${value}\n`);
}

const flows: Flow[] = [
  { by: 'client', protocol: 'tcp', source: '10.1.0.2', destination: '203.0.113.5', port: 80 },
  { by: 'client', protocol: 'tcp', source: 'fd01::2', destination: '2001:db8:2::5', port: 80 },
];

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const network = await Network.start();
    t.teardown(() => network.stop());
    makeBridge();

    for (const backend of ['nftables', 'iptables'] as const) {
      t.test(backend, async (t) => {
        const plan = gateway({});
        t.teardown(() => remove(plan.name));
        callIptables(4, 0);
        callIptables(6, 0);
        await apply(plan, { backend });
        t.equal(await verify(plan, { backend }), undefined);
        t.same(await network.sendAll(flows), ['15002', '15002'], 'a bridge alone does no harm');

        callIptables(6, 1);
        t.match(await verify(plan, { backend }), {
          where: /bridge-nf-call-ip6tables, for the bridge br0/,
          expected: '0',
          found: '1',
        });
        t.not((await network.sendAll(flows))[1], '15002', 'and rightly so');
        const refusal = {
          code: 'ERR_RULES_BRIDGE',
          message: /bridge-nf-call-ip6tables.* is 1/,
          hint: /redirect/,
        };
        await t.rejects(apply(plan, { backend }), refusal);
        await t.rejects(applyCommands(plan, { backend }), refusal);
        callIptables(4, 1);
        await t.rejects(apply(plan, { backend }), { code: 'ERR_RULES_BRIDGE', message: /nf-call-iptables/ });

        const redirect = gateway({ mode: 'redirect' });
        await apply(redirect, { backend });
        t.equal(await verify(redirect, { backend }), undefined);
        t.same(await network.sendAll(flows), ['15002', '15002'], 'NAT works all the same');
      });
    }

    t.test('which plans are concerned', async (t) => {
      const found = async (plan: ReturnType<typeof planRules>) =>
        (
          await bridgeInTheWay(plan, async ({ command: [program, ...args] }) => ({
            status: 0,
            stdout: sh([program, ...args].join(' ')),
            stderr: '',
          }))
        )?.where;
      callIptables(4, 1);
      callIptables(6, 0);
      t.match(await found(gateway({ include: { interfaces: ['br*'] } })), /nf-call-iptables/);
      t.match(await found(gateway({ protocols: ['udp'], exclude: { interfaces: ['wan0'] } })), /nf-call/);
      t.match(await found(gateway({ exclude: { interfaces: ['br0'], ports: [22] } })), /nf-call/);
      t.equal(await found(gateway({ exclude: { interfaces: ['br0'] } })), undefined);
      t.equal(await found(gateway({ include: { interfaces: ['eth0', 'wan*'] } })), undefined);
      t.equal(await found(gateway({}, ['IPv6'])), undefined);
      t.equal(
        await found(planRules({ outbound: { mode: 'tproxy', port: 1 }, exempt: { uids: [1] } })),
        undefined,
        'loopback is no bridge',
      );
      callIptables(4, 0);
      t.equal(await found(gateway({})), undefined);
      sh('ip link set br0 type bridge nf_call_ip6tables 1');
      t.equal(await found(gateway({})), 'nf_call_ip6tables of the bridge br0');
      sh('ip link del br0');
      t.equal(await found(gateway({})), undefined);
    });

    t.test('an ip that cannot tell', async (t) => {
      const run = async () => ({ status: 1, stdout: '', stderr: 'broken' });
      await t.rejects(bridgeInTheWay(gateway({}), run), { code: 'ERR_RULES_COMMAND' });
    });
  },
  { root: true },
);
