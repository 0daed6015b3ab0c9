// Which listed rules may be given back to the tools: all that this package writes, and nothing that says more.
import t from 'tap';
import { planRules } from '../../../lib/rules/index.ts';
import { iptablesRestorable, nftRestorable } from '../../../lib/rules/install/restorable.ts';
import { iptablesTables } from '../../../lib/rules/text/iptables.ts';
import { nftLines } from '../../../lib/rules/text/nftables.ts';
import type { Family } from '../../../lib/rules/index.ts';
import { configs } from '../../fixtures/rule-configs.ts';
import { EVERYTHING } from '../../fixtures/rule-foreign.ts';

t.test('all that is planned', async (t) => {
  for (const [name, config] of Object.entries({ ...configs, everything: EVERYTHING })) {
    const plan = planRules(config);
    for (const [family, chains] of Object.entries(plan.chains) as [Family, never][]) {
      t.ok(nftRestorable(nftLines(chains, family)), `${name} ${family}`);
      for (const table of iptablesTables(plan.name, chains, family)) {
        for (const rule of [...table.chains.values()].flat()) t.ok(iptablesRestorable(rule), rule);
      }
    }
  }
});

t.test('nothing else for nft', async (t) => {
  const chain = (...lines: string[]): string[] => ['chain nat-out {', ...lines, '}'];
  t.ok(nftRestorable([]));
  t.ok(nftRestorable(chain('tcp dport { 80, 443 } redirect to :15001 comment "captured connection"')));
  for (const lines of [
    chain('include "/etc/shadow"'),
    chain('define x = 1'),
    chain('comment "x'),
    chain('comment "x"'),
    chain('accept; include "/etc/shadow"'),
    chain('accept } include "/x"'),
    chain('tcp dport { 80 } }'),
    chain('accept comment "x'),
    chain('accept comment "x\u0007"'),
    chain('accept $x'),
    chain('accept # x'),
    chain('type filter hook output priority 0; policy drop;'),
    chain('chain x {'),
    [...chain('accept'), '}'],
    ['accept'],
    ['chain nat-out {'],
    ['chain x } {', '}'],
    ['table ip x {', '}'],
    ['set x {', 'type ipv4_addr', '}'],
  ])
    t.notOk(nftRestorable(lines), lines.join(' | '));
});

t.test('nothing else for iptables', async (t) => {
  t.ok(iptablesRestorable('-p tcp -m comment --comment "it \\"is\\"" -j RETURN'));
  for (const rule of [
    '',
    '-i x -M /tmp/evil -j RETURN',
    '-i x --modprobe=/tmp/evil -j RETURN',
    '-i x --modprobe /tmp/evil -j RETURN',
    '-t nat -j RETURN',
    '-j RETURN\nCOMMIT',
    '-m comment --comment "x\n*nat\n" -j RETURN',
    '-m comment --comment "x -j RETURN',
    '-m comment --comment "x\\" -j RETURN',
    "-i x' -j RETURN",
    '-i  x -j RETURN',
  ])
    t.notOk(iptablesRestorable(rule), rule);
});
