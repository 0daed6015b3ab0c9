// Which cgroup a rule of iptables stands for. xt_cgroup looks a path up once, when the rule is loaded, and its listing
// shows the path for ever: a service that was started again has a new cgroup of the same path, which no rule knows.
// So the rules say in their comments which one it was. nft needs no help: it lists the number where no path is left.
import type { Chain, RulePlan, RunStep, Backend } from '../types.ts';

/** Where cgroup v2 is: alone, or beside v1. */
const MOUNTS = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/** The number that the kernel tells a cgroup from all others by: its inode. */
export async function cgroupNumber(path: string, run: RunStep): Promise<string | undefined> {
  for (const mount of MOUNTS) {
    const command = ['stat', '-c', '%i', `${mount}/${path}`] as const;
    const { status, stdout } = await run({ why: 'see what is installed', command });
    if (status === 0) return stdout.trim();
  }
  return undefined;
}

/** The plan with the numbers that its cgroups have now, where the back-end's own listing does not tell. */
export async function nameCgroups(plan: RulePlan, backend: Backend, run: RunStep): Promise<RulePlan> {
  if (backend === 'nftables') return plan;
  const rules = Object.values(plan.chains).flatMap((chains) => chains.flatMap((chain) => chain.rules));
  const paths = new Set(rules.map(({ when }) => when.cgroup).filter((path) => path !== undefined));
  const numbers = new Map<string | undefined, string>();
  for (const path of paths) {
    const number = await cgroupNumber(path, run);
    numbers.set(path, number === undefined ? 'no such cgroup' : `cgroup ${number}`);
  }
  const named = (chain: Chain): Chain => ({
    ...chain,
    rules: chain.rules.map((rule) => {
      const note = numbers.get(rule.when.cgroup);
      return note === undefined ? rule : { ...rule, why: `${rule.why}, ${note}` };
    }),
  });
  return {
    ...plan,
    chains: Object.fromEntries(
      Object.entries(plan.chains).map(([family, chains]) => [family, chains.map(named)]),
    ),
  };
}
