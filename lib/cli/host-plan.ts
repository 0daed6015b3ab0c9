// Plans for this very host, which may be without IPv6.
import { hostFamilies, onlyFamilies, planRules, type RulePlan, type RulesConfig } from '../rules/index.ts';

/**
 * The plan of a configuration, for the families that this host has, which `say` tells if it is a difference. `asked`:
 * the families were asked for by name, and a missing one is an error for the system to tell.
 */
export function hostPlan(config: RulesConfig, asked: boolean, say: (message: string) => void): RulePlan {
  const plan = planRules(config);
  const here = onlyFamilies(plan, hostFamilies());
  const [there, all] = [here, plan].map(({ chains }) => Object.keys(chains).length) as [number, number];
  if (asked || there === 0 || there === all) return plan;
  say('IPv6 is switched off on this host: the rules are for IPv4 alone.');
  return here;
}
