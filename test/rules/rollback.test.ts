// A command that fails half-way: what was there before comes back.
import t from 'tap';
import { apply, applyCommands, planRules, remove, verify, type RunStep } from '../../lib/rules/index.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { BACKENDS, EVERYTHING, everything, failure, redirect } from '../fixtures/rule-foreign.ts';
import { shell } from '../fixtures/rule-shell.ts';
import { changes, snapshot } from '../fixtures/rule-snapshot.ts';

await inNamespace(t, import.meta.url, async () => {
  const runStep = shell(t);
  t.test('a failed command is undone', async (t) => {
    for (const backend of BACKENDS) {
      const before = snapshot();
      const steps = await applyCommands(everything, { backend, run: runStep });
      const failing = (at: number): RunStep => {
        let done = 0;
        return async (step) => {
          if (step.why !== 'see what is installed' && ++done === at) {
            return { status: 1, stdout: '', stderr: 'made to fail' };
          }
          return runStep(step);
        };
      };
      // At the first, at the second, in the middle, at the last.
      for (const at of [1, 2, 6, steps.length]) {
        const error = await failure(apply(everything, { backend, run: failing(at) }));
        t.equal(error.code, 'ERR_RULES_COMMAND');
        t.match(error.message, /failed with status 1: made to fail/);
        t.equal(changes(before), '', `${backend}: nothing is left of ${at - 1} steps`);
      }
      // With something there before, that comes back: rules, routing, settings.
      for (const [old, fresh] of [
        [everything, redirect],
        [redirect, everything],
        [everything, planRules({ ...EVERYTHING, dropInvalid: true })],
      ] as const) {
        await apply(old, { backend, run: runStep });
        const was = snapshot();
        // nftables without iptables' tools; iptables needs nft to leave no empty tables behind.
        const others = backend === 'nftables' ? /^ip6?tables/ : /^nothing$/;
        const without =
          (run: RunStep): RunStep =>
          async (step) =>
            others.test(step.command[0]) ? { status: null, stdout: '', stderr: '' } : run(step);
        const last = (await applyCommands(fresh, { backend, run: without(runStep) })).length;
        const run = without(failing(last));
        const error = await failure(apply(fresh, { backend, run }));
        t.equal(error.code, 'ERR_RULES_COMMAND');
        t.equal(await verify(old, { backend, run: runStep }), undefined);
        t.match(changes(was), /^$|^the same lines/, `${backend}: all as it was, if in another order`);
        await remove('all', { run: runStep });
      }
      // Whatever happens to the undoing, the reason that is told is the first.
      let failed = 0;
      let done = 0;
      const error = await failure(
        apply(everything, {
          backend,
          run: async (step) => {
            if (failed === 0 && (step.why === 'see what is installed' || ++done < 3)) return runStep(step);
            return { status: 1, stdout: '', stderr: `failure ${++failed}` };
          },
        }),
      );
      t.match(error.message, /failure 1$|failure 1 /);
      t.ok(failed > 1, 'the undoing failed too');
      await remove('all', { run: runStep });
      t.equal(changes(before), '');
    }
  });
});
