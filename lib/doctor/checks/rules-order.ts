// Does another rule take the connections first?
import type { Check } from '../context.ts';
import { takenAhead } from '../found-ahead.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('rules-order');

/** Base chains of one hook run by priority, and the first NAT or TPROXY rule that matches is the last. */
export const rulesOrder: Check = async (context) => {
  const { port } = context.subject;
  if (port === undefined) return [];
  const { rules, saved } = await context.rules();
  const own = rules.filter((rule) => rule.port === port && rule.priority !== undefined);
  const earlier = rules.filter(
    (rule) =>
      rule.port !== port &&
      own.some(
        ({ hooks, priority, families }) =>
          rule.hooks.some((hook) => hooks.includes(hook)) &&
          rule.priority !== undefined &&
          rule.priority < priority! &&
          rule.families.some((family) => families.includes(family)),
      ),
  );
  const ahead = saved.flatMap(({ program, text }) =>
    takenAhead(text, port).map((found) => ({ ...found, program })),
  );
  return [
    ...earlier.map(({ place, kind, port: other }) =>
      finding.warning(
        `${kind} in ${place} comes before the rules for port ${port}`,
        `Whatever it matches goes to ${other === undefined ? 'where it says' : `port ${other}`} and never comes here.`,
      ),
    ),
    ...ahead.map(({ program, table, rule }) =>
      finding.problem(
        `${program}: a rule of table ${table} takes every connection before the rules for port ${port}`,
        `It stands in front of them: ${rule}. If they are this package’s, \`rules apply\` once more puts them first.`,
        `${program} -t ${table} -D ${rule}`,
      ),
    ),
  ];
};
