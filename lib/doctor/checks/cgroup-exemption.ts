// Do the rules still know the cgroup that they leave alone?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import type { FoundCgroup } from '../found-rules.ts';
import { cgroupNumber } from '../../rules/install/cgroups.ts';
import type { RunStep } from '../../rules/types.ts';

const finding = new Findings('cgroup-exemption');

/** nft lists the bare number of a cgroup that is no more; of iptables only a comment tells which one was meant. */
async function isStale({ cgroup, loaded }: FoundCgroup, run: RunStep): Promise<boolean> {
  const number = await cgroupNumber(cgroup, run);
  return loaded === undefined ? /^\d+$/.test(cgroup) && number === undefined : number !== loaded;
}

/**
 * `socket cgroupv2`, `-m cgroup --path`: both look the path up once, when the rule is loaded. A service that was started
 * again has a new cgroup under the old path, and what it sends is captured as everybody's: an endless loop.
 */
export const cgroupExemption: Check = async (context) => {
  const { cgroups } = await context.rules();
  if (cgroups.length === 0) return [];
  const stale: FoundCgroup[] = [];
  for (const each of cgroups) if (await isStale(each, context.run)) stale.push(each);
  if (stale.length === 0) return [finding.ok('cgroups in rules are there', 'As they were loaded.')];
  return stale.map(({ cgroup, place }) =>
    finding.problem(
      `a rule in ${place} knows a cgroup that is no more: ${cgroup}`,
      'The service was started again, under the same path with another cgroup; what the proxy sends is captured too. Apply the rules again after each start (systemd: ExecStartPost=), or tell the proxy by SO_MARK or a user of its own.',
    ),
  );
};
