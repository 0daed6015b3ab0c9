// From one plan or back-end to another, and beside rules that are somebody else's.
import t from 'tap';
import { apply, planRules, remove, verify } from '../../lib/rules/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import {
  BACKENDS,
  EVERYTHING,
  everything,
  makeForeign,
  failure,
  redirect,
} from '../fixtures/rule-foreign.ts';
import { shell } from '../fixtures/rule-shell.ts';
import { changes, snapshot } from '../fixtures/rule-snapshot.ts';

await inNamespace(t, import.meta.url, async () => {
  makeForeign();
  const run = shell(t);
  for (const backend of BACKENDS) {
    t.test(`${backend}: from one plan to another`, async (t) => {
      const before = snapshot();
      const fewer = planRules({ ...EVERYTHING, families: ['IPv6'] });
      const other = planRules({ ...EVERYTHING, table: 1000, dropInvalid: true });
      const fewerTables = planRules({
        name: 'all',
        families: ['IPv6'],
        outbound: { mode: 'redirect', port: 15001 },
        exempt: { marks: [7] },
      });
      for (const plan of [redirect, fewerTables, everything, fewer, other]) {
        await apply(plan, { backend, run });
        t.equal(await verify(plan, { backend, run }), undefined, 'there');
      }
      await remove('all', { run });
      t.equal(changes(before), '', 'all as it was');
    });
  }

  t.test('another back-end takes over', async (t) => {
    const before = snapshot();
    for (const backend of ['nftables', 'iptables', 'nftables'] as const) {
      await apply(everything, { backend, run });
      t.equal(await verify(everything, { backend, run }), undefined);
      const other = backend === 'nftables' ? 'iptables' : 'nftables';
      t.match(await verify(everything, { backend: other, run }), { found: undefined });
    }
    // Somebody's copy of the texts is beside them.
    sh('iptables -t nat -N odst-all-out');
    t.match(await verify(everything, { run }), {
      where: 'iptables',
      expected: undefined,
      found: /all as well/,
    });
    await remove('all', { run });
    t.equal(changes(before), '');
  });

  t.test('what is foreign is not shared', async (t) => {
    const before = snapshot();
    const using = (command: string, undo: string, expected: RegExp): Promise<unknown> =>
      t.test(command, async (t) => {
        sh(command);
        const taken = snapshot();
        for (const backend of BACKENDS) {
          const error = await failure(apply(everything, { backend, run }));
          t.equal(error.code, 'ERR_RULES_FOREIGN');
          t.match(error.message, expected);
        }
        t.equal(changes(taken), '', 'nothing was changed');
        sh(undo);
      });
    await using('ip rule add fwmark 1337 lookup 77', 'ip rule del fwmark 1337', /routing rule for mark 1337/);
    await using(
      'ip -6 rule add fwmark 0x53b/0xff lookup 133',
      'ip -6 rule del fwmark 0x53b/0xff lookup 133',
      /IPv6 routing rule for mark 1339 already: fwmark 0x53b\/0xff/,
    );
    await using(
      'ip route add 192.0.2.0/24 dev lo table 133',
      'ip route flush table 133',
      /IPv4 routing table 133 is in use: unicast 192.0.2.0\/24 dev lo/,
    );
    // As an installation makes it, but of none that is recorded: of another plan.
    await apply(planRules({ ...EVERYTHING, name: 'other' }), { run });
    t.equal((await failure(apply(everything, { run }))).code, 'ERR_RULES_FOREIGN');
    await remove('other', { run });
    t.equal(changes(before), '');
  });
});
