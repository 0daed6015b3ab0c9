// A host whose IPv6 is switched off: rules of both families are for IPv4 alone there, unless IPv6 was asked for.
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { hostPlan } from '../../lib/cli/host-plan.ts';
import {
  apply,
  hostFamilies,
  onlyFamilies,
  planRules,
  remove,
  verify,
  type RulesConfig,
} from '../../lib/rules/index.ts';
import { cliBatch } from '../fixtures/cli.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

function disable(name: string, value: 0 | 1): void {
  writeFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, `${value}\n`);
}

const TPROXY: RulesConfig = {
  gateway: { mode: 'tproxy', port: 15001, forwarding: true },
  inbound: { mode: 'tproxy', port: 15006 },
};

t.test('the part of a plan for a family', async (t) => {
  const plan = planRules(TPROXY);
  t.same(onlyFamilies(plan, ['IPv4', 'IPv6']), plan);
  t.same(onlyFamilies(plan, ['IPv4']), planRules({ ...TPROXY, families: ['IPv4'] }));
  t.same(onlyFamilies(plan, ['IPv6']), planRules({ ...TPROXY, families: ['IPv6'] }));
});

await inNamespace(t, import.meta.url, async () => {
  sh('ip link add veth0 type veth peer name veth1 && ip link set veth0 up');

  t.test('which families there are', async (t) => {
    t.same(hostFamilies(), ['IPv4', 'IPv6']);
    disable('all', 1);
    t.same(hostFamilies(), ['IPv4']);
    disable('veth0', 0);
    t.same(hostFamilies(), ['IPv4', 'IPv6'], 'on one interface is enough');
    disable('veth0', 1);
  });

  for (const backend of ['nftables', 'iptables'] as const) {
    t.test(`tproxy, ${backend}`, async (t) => {
      const said: string[] = [];
      const say = (message: string): void => void said.push(message);
      const plan = hostPlan(TPROXY, false, say);
      t.match(said, [/IPv6 is switched off.*IPv4 alone/]);
      t.teardown(() => remove(plan.name));
      await apply(plan, { backend });
      t.equal(await verify(plan, { backend }), undefined);
      t.match(sh('ip -4 rule'), /fwmark 0x539/);
      t.notMatch(sh('ip -6 rule 2>/dev/null || :'), /fwmark/);
      await remove(plan.name);

      const asked = hostPlan(TPROXY, true, say);
      t.same(asked, planRules(TPROXY), 'what is asked for by name is tried');
      t.same(
        hostPlan({ ...TPROXY, families: ['IPv6'] }, false, say).chains,
        planRules({ ...TPROXY, families: ['IPv6'] }).chains,
        'and so is what is all there is',
      );
      t.equal(said.length, 1);
      await t.rejects(apply(asked, { backend }), { code: 'ERR_RULES_COMMAND', message: /IPv6 is disabled/ });
    });
  }

  t.test('the command', async (t) => {
    const options = '--port 15001 --exempt-uid 1337 --mode tproxy';
    const note = /^# IPv6 is switched off on this host: the rules are for IPv4 alone\.\n$/;
    const results = cliBatch([
      `rules apply ${options} --yes`,
      `rules verify ${options}`,
      `rules verify ${options} --family 4`,
      'rules remove --yes',
      `rules apply ${options} --family 6 --yes`,
      `rules print ${options}`,
    ]);
    t.match(results, [
      { status: 0, stderr: note },
      { status: 0, stderr: note },
      { status: 0, stderr: '' },
      { status: 0 },
      { status: 1, stderr: /IPv6 is disabled/ },
      // For whatever host.
      { status: 0, stderr: '', stdout: /table ip6/ },
    ]);
  });

  t.test('a kernel without IPv6', async (t) => {
    disable('all', 0);
    t.same(hostFamilies(), ['IPv4', 'IPv6']);
    sh('mount -t tmpfs none /proc/sys/net/ipv6');
    t.same(hostFamilies(), ['IPv4']);
    sh('mkdir -p /proc/sys/net/ipv6/conf/gone0');
    t.same(hostFamilies(), ['IPv4'], 'an interface that has just gone');
  });
});
