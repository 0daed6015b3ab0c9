// `nft flush ruleset`, as restarting nftables.service does: rules and record are gone, the routing is still there.
import t from 'tap';
import {
  apply,
  draining,
  planRules,
  remove,
  verify,
  type RulesConfig,
  type RunStep,
} from '../../../lib/rules/index.ts';
import { inNamespace, sh } from '../../fixtures/netns.ts';
import { BACKENDS, failure, redirect } from '../../fixtures/rule-foreign.ts';
import { shell } from '../../fixtures/rule-shell.ts';

const tproxy = planRules({
  name: 'all',
  outbound: { mode: 'tproxy', port: 15001 },
  exempt: { marks: [7] },
});
const OTHER: RulesConfig = {
  name: 'other',
  families: ['IPv4'],
  inbound: { mode: 'tproxy', port: 15006 },
  mark: 99,
  table: 99,
};
const other = planRules(OTHER);

/** The routing that this package made, one line each. */
const routing = (): string =>
  sh('for f in 4 6; do ip -$f rule; ip -$f route show table all; done').replaceAll(
    /^(?!.*proto(col)? 143).*\n/gm,
    '',
  );

await inNamespace(t, import.meta.url, async () => {
  const run = shell(t);
  for (const backend of BACKENDS) {
    const how = { run, backend };
    t.test(`${backend}: found again`, async (t) => {
      await apply(tproxy, how);
      const made = routing();
      for (const next of [tproxy, draining(tproxy)]) {
        sh('nft flush ruleset');
        t.match(await verify(next, how), { found: undefined }, 'gone');
        const log: string[] = [];
        await apply(next, {
          backend,
          run: (step) => {
            log.push(step.command.join(' '));
            return run(step);
          },
        });
        t.notOk(
          log.some((line) => / (add|del) /.test(line)),
          'packets of open connections find their way all the time',
        );
        t.equal(await verify(next, how), undefined, 'there again');
        t.equal(routing(), made);
      }
      t.equal(await remove('all', { run }), true);
      t.equal(routing(), '');
    });

    t.test(`${backend}: removed`, async (t) => {
      await apply(tproxy, how);
      sh('nft flush ruleset; ip rule del fwmark 1339');
      t.match(routing(), /default dev lo table 133/, 'a table alone');
      t.equal(await remove('all', { run }), true);
      t.equal(routing(), '');
      t.equal(await remove('all', { run }), false);

      await apply(tproxy, how);
      sh('nft flush ruleset');
      await apply(redirect, how);
      t.equal(routing(), '', 'not needed any more');
      t.equal(await verify(redirect, how), undefined);
      await remove('all', { run });
    });

    t.test(`${backend}: another plan’s is left to it`, async (t) => {
      await apply(other, how);
      const made = routing();
      t.not(made, '');
      t.equal(await remove('all', { run }), false);
      t.equal(routing(), made);
      sh('ip rule del fwmark 99');
      t.equal(await remove('all', { run }), false, 'its table too');
      await apply(other, how);
      // As whoever installs what `rules print` says: without a record.
      sh(
        backend === 'nftables'
          ? 'nft flush chain ip original-dst-other record; nft delete chain ip original-dst-other record'
          : 'iptables -F odst-other-record; iptables -X odst-other-record',
      );
      t.equal(await remove('all', { run }), false);
      t.match(
        await failure(apply(planRules({ ...OTHER, name: 'all' }), how)),
        { code: 'ERR_RULES_FOREIGN' },
        'nor shared',
      );
      t.equal(await remove('other', { run }), true);
      t.equal(routing(), '');
    });
  }

  t.test('an ip that cannot be asked', async (t) => {
    const busybox: RunStep = async (step) =>
      step.command[0] === 'ip' ? { status: 1, stdout: '', stderr: 'ip: invalid argument' } : run(step);
    await apply(redirect, { run: busybox });
    t.equal(await remove('all', { run: busybox }), true, 'is not needed without TPROXY');
    t.match(await failure(apply(tproxy, { run: busybox })), { code: 'ERR_RULES_COMMAND', message: /^ip / });
    await apply(tproxy, { run });
    t.match(await failure(remove('all', { run: busybox })), { code: 'ERR_RULES_COMMAND', message: /^ip / });
    await remove('all', { run });
  });
});
