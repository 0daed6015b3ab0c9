// apply, verify, remove: what a plan comes to in this network namespace.
import { codedError } from '../../errors.ts';
import { checkBoolean } from '../../arguments.ts';
import type { Family } from '../config/config.ts';
import { checkNamespace, type Namespace } from '../../namespace/namespace.ts';
import { checkName } from '../config/settings.ts';
import type { Backend, Difference, RulePlan, RunStep, Step } from '../types.ts';
import { bridgeInTheWay, refuseBridges } from './bridges.ts';
import { nameCgroups } from './cgroups.ts';
import { heldByAnother, thisProcess } from './holder.ts';
import { installSteps } from './install-steps.ts';
import { readInstalled, type Installed, type Needs } from './installed.ts';
import { locked } from './lock.ts';
import { removeSteps } from './remove-steps.ts';
import { runStep, runStepIn, stepError } from './run.ts';
import { targetBefore, targetOf, type Target } from './target.ts';
import { firstDifference } from './verify.ts';

export interface RemoveOptions {
  /**
   * Where the rules are or go, as `Namespace.of` or `Namespace.create` of `original-dst` gives it: the tools run in there, as its root.
   * Default: the network namespace of this process.
   */
  namespace?: Namespace;
  /** Runs the commands; default: as child processes of this one, in its network namespace. Not beside `namespace`. */
  run?: RunStep;
  /** Do it also while another process holds the rules of that name. Default false. */
  takeOver?: boolean;
}

export interface ApplyOptions extends RemoveOptions {
  /** Default `nftables`. */
  backend?: Backend;
  /**
   * The rules are this process’s until it removes them, ends, or applies them without this option: until then
   * another’s apply and remove of the same name are refused. Default false. From another pid namespace nobody can
   * see whether this process still runs, and it does not count.
   */
  hold?: boolean;
}

/** {@link ApplyOptions} with every default filled in. */
interface Settings {
  run: RunStep;
  namespace: Namespace | undefined;
  backend: Backend;
  takeOver: boolean;
  hold: boolean;
}

function readOptions(options: ApplyOptions): Settings {
  const { backend = 'nftables', namespace, takeOver = false, hold = false } = options;
  if (backend !== 'nftables' && backend !== 'iptables')
    throw codedError('ERR_RULES_OPTION', `backend: '${String(backend)}' is none of nftables, iptables`);
  checkBoolean('takeOver', takeOver);
  checkBoolean('hold', hold);
  if (namespace !== undefined) {
    checkNamespace('namespace', namespace);
    if (options.run !== undefined)
      throw codedError('ERR_RULES_OPTION', 'run: beside namespace, which says where the commands run', {
        hint: 'give one of the two',
      });
  }
  const run = options.run ?? (namespace ? runStepIn(namespace) : runStep);
  return { run, namespace, backend, takeOver, hold };
}

async function runAll(steps: readonly Step[], run: RunStep): Promise<void> {
  for (const step of steps) {
    const result = await run(step);
    if (result.status !== 0) throw stepError(step, result);
  }
}

const NOTHING: Needs = { backend: undefined, families: [], routes: [], sysctls: [] };

function needsOf(plan: RulePlan, backend: Backend): Needs {
  const { routes, sysctls, chains } = plan;
  return { backend, families: Object.keys(chains) as Family[], routes, sysctls };
}

function checkHolder({ name, nftables, iptables }: Installed, takeOver: boolean): void {
  if (takeOver) return;
  for (const back of [nftables, iptables]) {
    const error = heldByAnother(back?.record?.holder, name);
    if (error !== undefined) throw error;
  }
}

/** What is there, and the steps from there to the plan. */
async function planned(
  plan: RulePlan,
  { backend, run, takeOver, hold }: Settings,
): Promise<{ before: Installed; steps: Step[] }> {
  checkName(plan.name);
  const before = await readInstalled(plan.name, needsOf(plan, backend), run);
  checkHolder(before, takeOver);
  await refuseBridges(plan, run);
  const named = await nameCgroups(plan, backend, run);
  const target = targetOf(named, backend, hold ? thisProcess() : undefined);
  return { before, steps: installSteps(target, before) };
}

/** Leads back to what was there. What fails here fails for the reason that apply failed for, which is told already. */
async function rollBack(before: Installed, backend: Backend, run: RunStep): Promise<void> {
  const target: Target | undefined = targetBefore(before, backend);
  const { routes, sysctls } = target ?? NOTHING;
  const now = await readInstalled(before.name, { backend, families: [], routes, sysctls }, run);
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
  const settings = readOptions(options);
  return (await locked(() => planned(plan, settings), { namespace: settings.namespace })).steps;
}

/**
 * Installs a plan in this network namespace: `nft -f -`, or `iptables-restore --noflush` and `ip6tables-restore
 * --noflush`; `ip rule` and `ip route`; /proc/sys. Only tables and chains of the plan's own name are touched.
 *
 * It may be repeated, also with another plan of the same name or with the other back-end; the rules then change in
 * one transaction, unless marks, routing tables or back-ends differ. If a command fails, what was there before is
 * brought back. Whatever an installation that was killed has left is finished or cleaned up by the next one, and
 * by {@link remove}; so is what `nft flush ruleset` has left. It waits for others that do the same in this network
 * namespace.
 *
 * @throws `ERR_RULES_FOREIGN` (the mark or the routing table is somebody else’s), `ERR_RULES_HELD` (another process
 *   holds the rules, see {@link ApplyOptions.hold}; its number is the error’s `pid`), `ERR_RULES_UNREADABLE` (what is
 *   there cannot be told for certain; nothing was done), `ERR_RULES_BRIDGE` (br_netfilter keeps tproxy from working), `ERR_RULES_BUSY`,
 *   `ERR_RULES_TOOL_MISSING`, `ERR_RULES_PERMISSION`, `ERR_RULES_COMMAND`, `ERR_RULES_OPTION`
 * Capability: CAP_NET_ADMIN in the user namespace that owns the network namespace. Source: nft(8),
 * iptables-restore(8), ip-rule(8).
 */
export async function apply(plan: RulePlan, options: ApplyOptions = {}): Promise<void> {
  const settings = readOptions(options);
  const { backend, run, namespace } = settings;
  await locked(
    async () => {
      const { before, steps } = await planned(plan, settings);
      try {
        await runAll(steps, run);
      } catch (error) {
        await rollBack(before, backend, run).catch(() => {});
        throw error;
      }
    },
    { namespace },
  );
}

/**
 * Compares what is installed with the plan.
 *
 * @returns the first difference, or undefined if there is none
 * @throws `ERR_RULES_UNREADABLE`, `ERR_RULES_TOOL_MISSING`, `ERR_RULES_PERMISSION`, `ERR_RULES_COMMAND`,
 *   `ERR_RULES_OPTION`
 * Capability: CAP_NET_ADMIN.
 */
export async function verify(plan: RulePlan, options: ApplyOptions = {}): Promise<Difference | undefined> {
  const { backend, run, namespace } = readOptions(options);
  checkName(plan.name);
  return locked(
    async () => {
      const installed = await readInstalled(plan.name, needsOf(plan, backend), run);
      const target = targetOf(await nameCgroups(plan, backend, run), backend);
      return firstDifference(target, installed) ?? (await bridgeInTheWay(plan, run));
    },
    { namespace },
  );
}

async function removal(name: string, { run, takeOver }: Settings): Promise<Step[]> {
  const installed = await readInstalled(name, NOTHING, run);
  checkHolder(installed, takeOver);
  return removeSteps(installed);
}

/** The commands that {@link remove} would run now. */
export async function removeCommands(name: string, options: RemoveOptions = {}): Promise<Step[]> {
  checkName(name);
  const settings = readOptions(options);
  return locked(() => removal(name, settings), { namespace: settings.namespace });
}

/**
 * Removes what {@link apply} installed under that name, in both back-ends, whole or in part: rules, routing, and
 * the values of /proc/sys as they were. Connections that are open by way of the rules break; see {@link draining} for
 * how to let them end first.
 *
 * @returns whether anything was there
 * @throws `ERR_RULES_NAME`, `ERR_RULES_HELD`, `ERR_RULES_UNREADABLE`, `ERR_RULES_TOOL_MISSING`,
 *   `ERR_RULES_PERMISSION`, `ERR_RULES_COMMAND`
 * Capability: CAP_NET_ADMIN.
 */
export async function remove(name: string, options: RemoveOptions = {}): Promise<boolean> {
  checkName(name);
  const settings = readOptions(options);
  return locked(
    async () => {
      const steps = await removal(name, settings);
      await runAll(steps, settings.run);
      return steps.length > 0;
    },
    { namespace: settings.namespace },
  );
}
