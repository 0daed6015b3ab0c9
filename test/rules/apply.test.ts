// apply, verify, remove: what they leave alone, what they restore, and that nothing can interrupt them for good.
import t from 'tap';
import {
  apply,
  applyCommands,
  commandLine,
  planRules,
  remove,
  removeCommands,
  sidecar,
  verify,
  type Backend,
  type RunStep,
  type Step,
  type StepResult,
} from '../../lib/rules/index.ts';
import { runStep } from '../../lib/rules/install/run.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { BACKENDS, EVERYTHING, everything, failure, makeForeign } from '../fixtures/rule-foreign.ts';
import { shell } from '../fixtures/rule-shell.ts';
import { changes, snapshot } from '../fixtures/rule-snapshot.ts';

await inNamespace(t, import.meta.url, async () => {
  const run = shell(t);
  for (const foreign of [false, true]) {
    if (foreign) t.test('foreign rules', async () => makeForeign());
    const among = foreign ? 'among foreign rules' : 'in an empty namespace';

    for (const backend of BACKENDS) {
      t.test(`${backend} ${among}: apply, again, remove`, async (t) => {
        const before = snapshot();
        for (const plan of foreign
          ? [everything]
          : [planRules(sidecar({ families: ['IPv6'], proxyUid: 0, proxyGid: 0 }))]) {
          t.match(await verify(plan, { backend, run }), { found: undefined }, 'not there yet');
          await apply(plan, { backend, run });
          t.equal(await verify(plan, { backend, run }), undefined, 'there');
          const applied = snapshot();
          t.not(applied, before);
          await apply(plan, { backend, run });
          t.equal(snapshot(), applied, 'applied twice is applied once');
          t.equal(await remove(plan.name, { run }), true);
          t.equal(changes(before), '', 'all as it was');
          t.equal(await remove(plan.name, { run }), false, 'nothing left to remove');
        }
      });
    }
  }

  t.test('an interface that goes away takes its settings with it', async (t) => {
    sh('ip link add gone0 type veth peer name gone1; echo 1 > /proc/sys/net/ipv4/conf/gone0/forwarding');
    await apply(everything);
    sh('ip link del gone0');
    t.equal(await remove('all'), true);
    t.equal(await remove('all'), false);
  });

  t.test('what others put into a table that iptables made stays', async (t) => {
    const v6 = planRules({ ...EVERYTHING, name: 'v6', families: ['IPv6'] });
    await apply(v6, { backend: 'iptables' });
    sh('ip6tables -t nat -A PREROUTING -p tcp --dport 1 -j ACCEPT; ip6tables -t raw -N mine');
    await remove('v6');
    t.match(sh('ip6tables-save -t nat'), /--dport 1 -j ACCEPT/);
    t.match(sh('ip6tables-save -t raw'), /:mine/);
    t.notMatch(sh('ip6tables-save'), /odst-v6/);
  });

  t.test('tools', async (t) => {
    const without =
      (missing: RegExp, result: StepResult): RunStep =>
      async (step) =>
        missing.test(step.command[0]) ? result : runStep(step);
    const absent: StepResult = { status: null, stdout: '', stderr: '' };
    const forbidden: StepResult = {
      status: 1,
      stdout: '',
      stderr: 'Operation not permitted (you must be root)',
    };

    const noNft = without(/^nft$/, absent);
    const error = await failure(apply(everything, { run: noNft }));
    t.equal(error.code, 'ERR_RULES_TOOL_MISSING');
    t.match(error.message, /no program nft.*package nftables/);
    await apply(everything, { run: noNft, backend: 'iptables' });
    t.equal(
      await verify(everything, { run: noNft, backend: 'iptables' }),
      undefined,
      'iptables does without nft',
    );
    const broken: RunStep = async (step) =>
      step.why.startsWith('install') ? { status: 1, stdout: '', stderr: 'broken' } : noNft(step);
    t.match((await failure(apply(everything, { run: broken, backend: 'iptables' }))).message, /broken/);
    t.equal(await remove('all', { run: noNft }), true);

    const noIptables = without(/^ip6?tables/, absent);
    t.match(
      (await failure(apply(everything, { run: noIptables, backend: 'iptables' }))).message,
      /package iptables/,
    );
    await apply(everything, { run: noIptables });
    t.equal(await remove('all', { run: noIptables }), true, 'nftables does without iptables');

    const neither = without(/^(nft|ip6?tables.*)$/, absent);
    t.equal((await failure(remove('all', { run: neither }))).code, 'ERR_RULES_TOOL_MISSING');
    t.equal(
      (await failure(apply(everything, { run: without(/^tee$/, absent) }))).code,
      'ERR_RULES_TOOL_MISSING',
    );
    t.equal(
      (await failure(apply(everything, { run: without(/^ip$/, forbidden) }))).code,
      'ERR_RULES_PERMISSION',
    );
    t.equal((await failure(verify(everything, { backend: 'pf' as Backend }))).code, 'ERR_RULES_OPTION');
    t.equal((await failure(remove('No'))).code, 'ERR_RULES_NAME');

    // A kernel without IPv6.
    const noIpv6: RunStep = async (step) =>
      /\/proc\/sys\/net\/ipv6/.test(step.command.join(' '))
        ? { status: 1, stdout: '', stderr: 'No such file or directory' }
        : runStep(step);
    t.match((await failure(apply(everything, { run: noIpv6 }))).message, /tee.*net\/ipv6.*No such file/);
    t.equal(await remove('all'), false, 'nothing is left of it');

    t.same(await runStep({ why: 'x', command: ['no-such-program'] }), absent);
    const { PATH } = process.env;
    delete process.env['PATH'];
    t.match(await runStep({ why: 'x', command: ['true'] }), { status: 0 }, 'without a PATH');
    process.env['PATH'] = PATH;
    t.match(await runStep({ why: 'x', command: ['sh', '-c', 'kill -9 $$'] }), { status: -1 });
    t.same(await runStep({ why: 'x', command: ['cat'], stdin: 'y' }), { status: 0, stdout: 'y', stderr: '' });
    t.equal(commandLine({ command: ['sh', '-c', "it's"] }), "sh -c 'it'\\''s'");
  });

  t.test('the commands tell all', async (t) => {
    const before = snapshot();
    for (const backend of BACKENDS) {
      const steps = await applyCommands(everything, { backend });
      const ran: Step[] = [];
      const run: RunStep = (step) => {
        if (step.why !== 'see what is installed') ran.push(step);
        return runStep(step);
      };
      await apply(everything, { backend, run });
      t.same(ran, steps, 'apply runs what applyCommands says');
      const removal = await removeCommands('all');
      ran.length = 0;
      await remove('all', { run });
      t.same(ran, removal, 'remove runs what removeCommands says');
      t.equal(changes(before), '');
    }
  });
});
