// Several at once: none loses what another has installed, and nobody without the right to change rules is in the way.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { binding } from '../../../lib/binding.ts';
import { apply, planRules, remove, verify, type Backend } from '../../../lib/rules/index.ts';
import { locked } from '../../../lib/rules/install/lock.ts';
import { inNamespace, sh } from '../../fixtures/netns.ts';
import { BACKENDS, everything, failure } from '../../fixtures/rule-foreign.ts';
import { changes, snapshot } from '../../fixtures/rule-snapshot.ts';

const RULER = fileURLToPath(new URL('../../fixtures/programs/ruler.js', import.meta.url));
const LOCKED = '/proc/sys/net/ipv4/tcp_fastopen_key';

await inNamespace(t, import.meta.url, async () => {
  const child = async (plan: unknown, backend: Backend): Promise<number> => {
    const started = spawn(process.execPath, [RULER, JSON.stringify(plan), backend], {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { PATH: process.env['PATH'] },
    });
    return ((await once(started, 'exit')) as [number])[0];
  };
  const plans = ['a', 'b', 'c'].map((name, i) =>
    planRules({
      name,
      outbound: { mode: 'tproxy', port: 15001 + i },
      exempt: { marks: [7] },
      mark: 100 + 10 * i,
      table: 100 + i,
    }),
  );

  for (const backend of BACKENDS) {
    t.test(`${backend}: several processes, and several calls of one`, async (t) => {
      const several = [
        ...plans.map((plan) => child(plan, backend)),
        ...plans.map((plan) => apply(plan, { backend })),
      ];
      t.same((await Promise.all(several)).filter(Boolean), [], 'all have done it');
      for (const plan of plans) t.equal(await verify(plan, { backend }), undefined, plan.name);
      t.same(await Promise.all(plans.map(({ name }) => remove(name))), [true, true, true]);
      t.notMatch(sh('nft list ruleset; ip rule; ip -6 rule'), /odst|original-dst|13370/);
    });

    t.test(`${backend}: the same plan`, async (t) => {
      const before = snapshot();
      const all = [child(everything, backend), child(everything, backend), apply(everything, { backend })];
      t.same((await Promise.all(all)).filter(Boolean), []);
      t.equal(await verify(everything, { backend }), undefined);
      t.same((await Promise.all([remove('all'), remove('all')])).sort(), [false, true], 'one of them');
      t.equal(changes(before), '');
    });
  }

  t.test('waiting', async (t) => {
    const order: string[] = [];
    let end = (): void => {};
    const first = locked(async () => {
      order.push('first');
      await new Promise<void>((resolve) => (end = resolve));
      order.push('end');
    });
    const second = locked(async () => order.push('second'));
    const error = await failure(locked(async () => order.push('never'), { patience: 50 }));
    t.match(error, { code: 'ERR_RULES_BUSY', message: /for 0\.05 s/, hint: /lsof \/proc/ });
    end();
    await Promise.all([first, second]);
    t.same(order, ['first', 'end', 'second']);

    const failed = locked(() => Promise.reject(new Error('of the body')));
    t.match(await failure(failed), { message: 'of the body' });
    t.equal(await locked(async () => 1), 1, 'given back all the same');
    t.equal(await locked(async () => 2, { path: '/nonexistent' }), 2);
    t.equal(binding().lockFile(-1), -9);
    t.equal(binding().lockFile('x' as unknown as number), -9);
  });

  t.test('the lock is this namespace’s', async (t) => {
    const fd = openSync(LOCKED, 'r');
    t.equal(binding().lockFile(fd), 0);
    t.equal(sh(`flock -n -x ${LOCKED} echo free || echo taken`), 'taken\n');
    t.equal(sh(`unshare -n flock -n -x ${LOCKED} echo free || echo taken`), 'free\n', 'another namespace');
    closeSync(fd);
    t.equal(sh(`flock -n -x ${LOCKED} echo free || echo taken`), 'free\n');
  });
});
