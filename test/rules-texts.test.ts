// The texts of twenty configurations, against files. UPDATE_GOLDEN=1 writes the files anew.
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { planRules, toIpCommands, toIptables, toNftables, type RulesConfig } from '../lib/rules/index.ts';
import { configs } from './fixtures/rule-configs.ts';

const DIRECTORY = new URL('../../test/fixtures/rules/', import.meta.url);

function texts(config: RulesConfig): string {
  const plan = planRules(config);
  const { IPv4, IPv6 } = toIptables(plan);
  return [
    '### nft -f -',
    toNftables(plan),
    '### iptables-restore --noflush',
    IPv4 ?? '',
    '### ip6tables-restore --noflush',
    IPv6 ?? '',
    '### ip',
    ...toIpCommands(plan),
    '### /proc/sys',
    ...plan.sysctls.map(({ key, value }) => `${key}=${value}`),
    '',
  ].join('\n');
}

t.equal(Object.keys(configs).length, 20);

for (const [name, config] of Object.entries(configs)) {
  t.test(name, async (t) => {
    const file = new URL(`${name}.txt`, DIRECTORY);
    const text = texts(config);
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(file, text);
    t.equal(text, readFileSync(file, 'utf8'));
    t.same(JSON.parse(JSON.stringify(planRules(config))), planRules(config), 'a plan is plain data');
  });
}
