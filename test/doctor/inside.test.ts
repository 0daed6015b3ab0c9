// The doctor in another network namespace: it names a fault that is in there, and none of it out here.
import t from 'tap';
import { diagnose, type Finding } from '../../lib/doctor/index.ts';
import { Namespace } from '../../lib/index.ts';
import { apply, planRules, remove } from '../../lib/rules/index.ts';
import { inNamespace } from '../fixtures/netns.ts';

const problems = (findings: Finding[]): string[] =>
  findings.filter(({ level }) => level === 'problem').map(({ id }) => id);

await inNamespace(t, import.meta.url, async () => {
  t.test('a fault in there', async (t) => {
    const namespace = await Namespace.create();
    t.teardown(() => namespace.close());
    const plan = planRules({ outbound: { mode: 'tproxy', port: 15001 }, exempt: { marks: [7] } });
    await apply(plan, { namespace });
    const away = await namespace.run(['ip', 'rule', 'del', 'priority', '13370']);
    t.equal(away.status, 0);

    const found = problems(await diagnose({ namespace, port: 15001 }));
    t.match(found, ['listener', 'policy-routing-ipv4'], 'nobody listens, and a rule is missing');
    t.notMatch(problems(await diagnose()).join(), /listener|policy/, 'not here');
    await remove(plan.name, { namespace });
  });

  t.test('what cannot be', async (t) => {
    const namespace = await Namespace.create();
    t.teardown(() => namespace.close());
    await t.rejects(diagnose({ namespace: 7 as unknown as Namespace }), { code: 'ERR_INVALID_ARG_TYPE' });
    await t.rejects(diagnose({ namespace, host: {} as never }), { code: 'ERR_INVALID_ARG_VALUE' });
    t.intercept(process, 'execPath', { value: '/usr/bin/false' });
    await t.rejects(diagnose({ namespace }), {
      code: 'ERR_DOCTOR_INSIDE',
      message: /did not run to its end/,
    });
  });
});
