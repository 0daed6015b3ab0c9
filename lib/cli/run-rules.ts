// `original-dst rules`: what its commands do.
import type { Command } from 'commander';
import {
  apply,
  applyCommands,
  type ApplyOptions,
  commandLine,
  installedNames,
  planRules,
  remove,
  removeCommands,
  type RulePlan,
  type RulesConfig,
  type Step,
  toIpCommands,
  toIptables,
  toNftables,
  verify,
} from '../rules/index.ts';
import { inFlags } from './flag-names.ts';
import { hostPlan } from './host-plan.ts';
import { paintFor } from './output.ts';
import { rulesConfig, type RulesOptions } from './rules-options.ts';
import { keepSessions } from './ssh-session.ts';
import { uninterrupted } from './uninterrupted.ts';

export interface Execution {
  yes?: true;
  takeOver?: boolean;
}

/** Steps as a shell script that does the same. */
function script(steps: readonly Pick<Step, 'command' | 'stdin'>[]): string {
  return steps
    .map((step) =>
      step.stdin === undefined
        ? `${commandLine(step)}\n`
        : `${commandLine(step)} <<'RULES'\n${step.stdin}RULES\n`,
    )
    .join('');
}

/** The installation of a plan on a host that has nothing of it, as a shell script. */
function printed(plan: RulePlan, { backend }: ApplyOptions): string {
  const { IPv4, IPv6 } = toIptables(plan);
  const rules: Pick<Step, 'command' | 'stdin'>[] =
    backend === 'iptables'
      ? [
          ...(IPv4 === undefined
            ? []
            : [{ command: ['iptables-restore', '--noflush'] as const, stdin: IPv4 }]),
          ...(IPv6 === undefined
            ? []
            : [{ command: ['ip6tables-restore', '--noflush'] as const, stdin: IPv6 }]),
        ]
      : [{ command: ['nft', '-f', '-'], stdin: toNftables(plan) }];
  const sysctls = plan.sysctls.map(({ key, value }) => `sysctl -w ${key.replaceAll('/', '.')}=${value}`);
  return script(rules) + [...toIpCommands(plan), ...sysctls].map((line) => `${line}\n`).join('');
}

function backendOf({ backend }: RulesOptions): ApplyOptions {
  return backend === undefined ? {} : { backend };
}

/** Shows what would be run. On standard error that nothing is done, so that the script alone can be piped on. */
function dryRun(steps: readonly Step[]): void {
  process.stdout.write(script(steps));
  process.stderr.write('# A dry run: nothing was changed. Add --yes to run this.\n');
}

function planHere({ family, config: file }: RulesOptions, config: RulesConfig): RulePlan {
  return hostPlan(config, (family ?? file?.families) !== undefined, (message) =>
    process.stderr.write(`# ${message}\n`),
  );
}

export async function printRules(command: Command, options: RulesOptions & { json?: true }): Promise<void> {
  const plan = await inFlags(options, () => planRules(rulesConfig(command, options)));
  process.stdout.write(
    options.json ? `${JSON.stringify(plan, null, 2)}\n` : printed(plan, backendOf(options)),
  );
}

export async function applyRules(command: Command, options: RulesOptions & Execution): Promise<void> {
  await inFlags(options, async () => {
    const { yes, takeOver = false } = options;
    const how = { ...backendOf(options), takeOver };
    const config = rulesConfig(command, options);
    const plan = planHere(options, config);
    keepSessions(config);
    if (yes) await uninterrupted(() => apply(plan, how));
    else dryRun(await applyCommands(plan, how));
  });
}

export async function verifyRules(command: Command, options: RulesOptions): Promise<void> {
  const plan = await inFlags(options, () => planHere(options, rulesConfig(command, options)));
  const difference = await verify(plan, backendOf(options));
  const paint = paintFor(command);
  if (difference === undefined) {
    process.stdout.write(`${paint('green', '✔')} installed as planned\n`);
    return;
  }
  const { where, expected = 'nothing', found = 'nothing' } = difference;
  process.stdout.write(
    `${paint('red', '✖')} ${paint('bold', where)}\n    expected: ${expected}\n    found:    ${found}\n`,
  );
  process.exitCode = 1;
}

export async function removeRules(name: string, { yes, takeOver = false }: Execution): Promise<void> {
  await inFlags({}, async () => {
    const steps = yes ? [] : await removeCommands(name, { takeOver });
    const found = yes ? await uninterrupted(() => remove(name, { takeOver })) : steps.length > 0;
    if (found) {
      if (!yes) dryRun(steps);
      return;
    }
    const others = await installedNames();
    const hint = others.length > 0 ? ` There are rules under ${others.join(', ')}.` : '';
    process.stderr.write(`# Nothing is installed under the name ${name}.${hint}\n`);
  });
}
