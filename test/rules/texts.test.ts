// The texts of the configurations, against files. UPDATE_GOLDEN=1 writes the files anew.
import t from 'tap';
import { planRules } from '../../lib/rules/index.ts';
import { configs } from '../fixtures/rule-configs.ts';
import { compareTexts } from '../fixtures/rule-texts.ts';

for (const [name, config] of Object.entries(configs)) {
  t.test(name, async (t) => {
    const plan = planRules(config);
    compareTexts(t, name, plan);
    t.same(JSON.parse(JSON.stringify(plan)), plan, 'a plan is plain data');
  });
}
