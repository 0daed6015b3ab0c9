// What becomes of a plan when its proxy is about to end, against files. UPDATE_GOLDEN=1 writes the files anew.
import t from 'tap';
import { draining, planRules, toNftables, type RulePlan, type RulesConfig } from '../../lib/rules/index.ts';
import { parseNftTable } from '../../lib/rules/text/nftables.ts';
import { configs } from '../fixtures/rule-configs.ts';
import { compareTexts } from '../fixtures/rule-texts.ts';

/** Between them they have every kind of chain, and TCP beside UDP in each. */
const IN_FULL = [
  'everything',
  'gateway-redirect',
  'outbound-tproxy-udp',
  'outbound-udp',
  'sidecar-redirect',
  'sidecar-tproxy',
];
for (const name of IN_FULL) {
  t.test(name, async (t) => compareTexts(t, `draining/${name}`, draining(planRules(configs[name]!))));
}

const CAPTURING = new Set(['redirect', 'tproxy', 'connmark', 'mark']);

for (const [name, config] of Object.entries(configs)) {
  t.test(`${name}: what holds for all`, async (t) => {
    const plan = planRules(config);
    const drained = draining(plan);
    t.same(plan, planRules(config), 'the plan itself stays as it is');
    t.same(JSON.parse(JSON.stringify(drained)), drained, 'a plan is plain data');
    t.same({ ...drained, chains: {} }, { ...plan, chains: {} }, 'the same name, routes and settings');
    for (const [family, chains] of Object.entries(drained.chains)) {
      const frame = (chain: (typeof chains)[number]): object => ({ ...chain, rules: [] });
      const capturing = plan.chains[family as 'IPv4']!.filter(({ table }) => table !== 'filter');
      t.same(chains.map(frame), capturing.map(frame), 'the same chains, in the same order, and no refusals');
      for (const { id, rules } of chains) {
        // What has a mark was captured before.
        const capturing = rules.filter(
          ({ when, action }) => CAPTURING.has(action.do) && when.mark === undefined,
        );
        const passes = rules.findIndex(({ when }) => when.syn);
        t.ok(
          capturing.every((rule) => passes >= 0 && passes < rules.indexOf(rule)),
          `${id}: new connections pass`,
        );
        t.notOk(
          capturing.some(({ when }) => when.protocol === 'udp'),
          `${id}: no datagram is captured`,
        );
      }
    }
  });
}

/** The rules of one IPv4 chain, with spaces between the words alone. */
function chain(plan: RulePlan, name: string): string[] {
  const [, body = ''] =
    new RegExp(`chain ${name} \\{\\n\\t\\ttype[^\\n]*\\n([^]*?)\\t\\}`).exec(toNftables(plan)) ?? [];
  return body
    .split('\n')
    .map((line) => line.trim().replace(/ comment .*/, ''))
    .filter((line) => line !== '');
}

const SYN = 'tcp flags & (fin | syn | rst | ack) == syn return';

t.test('DNS', async (t) => {
  const dns: RulesConfig = {
    outbound: { mode: 'redirect', port: 15001, include: [] },
    dns: { port: 15053 },
    exempt: { uids: [1337] },
  };
  const alone = draining(planRules(dns));
  t.same(chain(alone, 'nat-out'), [
    'meta skuid 1337 return',
    'oifname "lo" tcp dport != 53 return',
    SYN,
    'tcp dport 53 counter redirect to :15053',
  ]);
  const own = [
    'udp dport 53 meta skuid 1337 ct zone set 1',
    'oifname "lo" udp sport 15053 meta skuid 1337 ct zone set 2',
  ];
  t.same(
    chain(alone, 'raw-zone-o'),
    [...own, 'udp dport 53 ct zone set 1'],
    'asked and answered in one zone',
  );
  t.same(chain(alone, 'raw-zone-i'), ['udp sport 53 ct zone set 1']);
  const gateway = draining(planRules({ ...dns, gateway: { mode: 'redirect', port: 15002 } }));
  t.same(
    chain(gateway, 'raw-zone-o'),
    ['udp dport 53 meta skuid 1337 return', own[1]],
    'where that is the default one',
  );
});

t.test('a chain of datagrams alone captures nothing, and is there', async (t) => {
  const plan = draining(
    planRules({ inbound: { mode: 'redirect', port: 15006, scope: 'any', protocols: ['udp'] } }),
  );
  t.same(chain(plan, 'nat-in'), ['ip daddr 224.0.0.0/4 return', 'fib daddr type broadcast return']);
  t.match(toNftables(plan), /chain nat-in/, 'the hook stays registered for flows that are translated');
});

t.test('both ways in which nft lists SYN', async (t) => {
  const not = (line: string): string =>
    line.replace(/flags(.*) ==/, 'flags$1 !=').replace('flags syn', 'flags != syn');
  for (const listed of ['tcp flags syn / fin,syn,rst,ack return', SYN]) {
    const table = `table ip x {\n\tchain c {\n\t\t${listed}\n\t\t${not(listed)}\n\t}\n}\n`;
    t.same(parseNftTable(table), ['chain c {', SYN, not(SYN), '}']);
  }
});
