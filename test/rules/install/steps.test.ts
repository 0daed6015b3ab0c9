// The commands for systems that are hard to come by: one back-end's tools missing, somebody else's rule for our mark.
import t from 'tap';
import { planRules } from '../../../lib/rules/index.ts';
import { installSteps } from '../../../lib/rules/install/install-steps.ts';
import type { Installed } from '../../../lib/rules/install/installed.ts';
import { ruleKey } from '../../../lib/rules/install/listed-routing.ts';
import { targetOf } from '../../../lib/rules/install/target.ts';

const plan = planRules({ inbound: { mode: 'tproxy', port: 15006, include: { ports: [80] } } });
const old = { family: 'IPv4', mark: 99, table: 99 } as const;
const undo = { routes: [old], sysctls: [], made: [] };
const record = { rules: { IPv4: [] }, undo, record: undo };
const system: Installed = {
  name: plan.name,
  nftables: undefined,
  iptables: undefined,
  tables: [],
  empty: [],
  rules: new Map([[ruleKey(old), [{ text: 'from all fwmark 0x63 lookup 99', own: false }]]]),
  routes: new Map([['IPv4 99', [{ text: 'local default dev lo', own: true }]]]),
  sysctls: new Map(),
  beside: new Map(),
};

for (const [backend, installed] of [
  ['nftables', { ...system, nftables: { ...record, recordLines: [], odd: [] } }],
  ['iptables', { ...system, iptables: { ...record, recordJumps: [], hidden: [], hiddenRemoval: '' } }],
] as const) {
  t.test(`${backend} alone, with the record of another mark`, async (t) => {
    const commands = installSteps(targetOf(plan, backend), installed).map(({ command }) => command.join(' '));
    t.notOk(
      commands.some((command) => command.includes('rule del')),
      'the rule for the old mark is not ours to delete',
    );
    t.ok(
      commands.some((command) => command.includes('route del') && command.includes('table 99')),
      'the route is',
    );
    t.ok(commands.some((command) => command.includes('rule add')));
  });
}
