import { codedError } from '../../errors.ts';
import { bridgeInTheWay, refuseBridges } from './bridges.ts';
import { readInstalled, type Installed } from './installed.ts';
import { runStep, stepError } from './run.ts';
import { checkName } from '../config/settings.ts';
import { installSteps, removeSteps, targetBefore, targetOf } from './steps.ts';
import type { Backend, Difference, RulePlan, RunStep, Step } from '../types.ts';
import { firstDifference } from './verify.ts';

export interface ApplyOptions {
  /** Default `nftables`. */
  backend?: Backend;
  /** Runs the commands; default: as child processes of this one, in its network namespace. */
  run?: RunStep;
}

function readBackend(backend: Backend | undefined): Backend {
  if (backend === undefined || backend === 'nftables' || backend === 'iptables') return backend ?? 'nftables';
  throw codedError('ERR_RULES_OPTION', `backend: '${String(backend)}' is none of nftables, iptables`);
}

async function runAll(steps: readonly Step[], run: RunStep): Promise<void> {
  for (const step of steps) {
    const result = await run(step);
    if (result.status !== 0) throw stepError(step, result);
  }
}

/** Leads back to what was there. What fails here fails for the reason that apply failed for, which is told already. */
async function rollBack(before: Installed, backend: Backend, run: RunStep): Promise<void> {
  const target = targetBefore(before, backend);
  const needs = target ?? { routes: [], sysctls: [] };
  const now = await readInstalled(before.name, needs, run, backend);
  await runAll(target === undefined ? removeSteps(now) : installSteps(target, now), run);
}

/**
 * The commands that {@link apply} would run now, each with what it reads from standard input; it only asks the
 * system what is there.
 *
 * @throws as {@link apply}
 * Capability: CAP_NET_ADMIN, also for the questions.
 */
export async function applyCommands(plan: RulePlan, options: ApplyOptions = {}): Promise<Step[]> {
  const backend = readBackend(options.backend);
  const { run = runStep } = options;
  const installed = await readInstalled(plan.name, plan, run, backend);
  await refuseBridges(plan, run);
  return installSteps(targetOf(plan, backend), installed);
}

/**
 * Installs a plan in this network namespace: `nft -f -`, or `iptables-restore --noflush` and `ip6tables-restore
 * --noflush`; `ip rule` and `ip route`; /proc/sys. Only tables and chains of the plan's own name are touched.
 *
 * It may be repeated, also with another plan of the same name or with the other back-end; the rules then change in
 * one transaction, unless marks, routing tables or back-ends differ. If a command fails, what was there before is
 * brought back. Whatever an installation that was killed has left is finished or cleaned up by the next one, and
 * by {@link remove}.
 *
 * @throws `ERR_RULES_FOREIGN` (the mark or the routing table is somebody else’s), `ERR_RULES_BRIDGE` (br_netfilter
 *   keeps tproxy from working), `ERR_RULES_TOOL_MISSING`, `ERR_RULES_PERMISSION`, `ERR_RULES_COMMAND`,
 *   `ERR_RULES_OPTION`
 * Capability: CAP_NET_ADMIN in the user namespace that owns the network namespace. Source: nft(8),
 * iptables-restore(8), ip-rule(8).
 */
export async function apply(plan: RulePlan, options: ApplyOptions = {}): Promise<void> {
  const { run = runStep } = options;
  const backend = readBackend(options.backend);
  const before = await readInstalled(plan.name, plan, run, backend);
  await refuseBridges(plan, run);
  try {
    await runAll(installSteps(targetOf(plan, backend), before), run);
  } catch (error) {
    await rollBack(before, backend, run).catch(() => {});
    throw error;
  }
}

/**
 * Compares what is installed with the plan.
 *
 * @returns the first difference, or undefined if there is none
 * @throws `ERR_RULES_TOOL_MISSING`, `ERR_RULES_PERMISSION`, `ERR_RULES_COMMAND`, `ERR_RULES_OPTION`
 * Capability: CAP_NET_ADMIN.
 */
export async function verify(plan: RulePlan, options: ApplyOptions = {}): Promise<Difference | undefined> {
  const backend = readBackend(options.backend);
  const { run = runStep } = options;
  const installed = await readInstalled(plan.name, plan, run, backend);
  return firstDifference(targetOf(plan, backend), installed) ?? (await bridgeInTheWay(plan, run));
}

/** The commands that {@link remove} would run now. */
export async function removeCommands(name: string, options: Pick<ApplyOptions, 'run'> = {}): Promise<Step[]> {
  checkName(name);
  return removeSteps(
    await readInstalled(name, { routes: [], sysctls: [] }, options.run ?? runStep, undefined),
  );
}

/**
 * Removes what {@link apply} installed under that name, in both back-ends, whole or in part: rules, routing, and
 * the values of /proc/sys as they were. Connections that are open by way of the rules break; see {@link draining} for
 * how to let them end first.
 *
 * @returns whether anything was there
 * @throws `ERR_RULES_NAME`, `ERR_RULES_TOOL_MISSING`, `ERR_RULES_PERMISSION`, `ERR_RULES_COMMAND`
 * Capability: CAP_NET_ADMIN.
 */
export async function remove(name: string, options: Pick<ApplyOptions, 'run'> = {}): Promise<boolean> {
  const steps = await removeCommands(name, options);
  await runAll(steps, options.run ?? runStep);
  return steps.length > 0;
}
