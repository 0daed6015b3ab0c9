// `original-dst rules`.
import { Command } from 'commander';
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
import { addSections, common, EXIT_STATUS, type Section } from './help.ts';
import { paintFor } from './output.ts';
import { keepSessions } from './ssh-session.ts';
import { uninterrupted } from './uninterrupted.ts';
import { addRulesOptions, rulesConfig, type RulesOptions } from './rules-options.ts';

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

const YES = 'do it; without, only show what would be run';
const TAKE_OVER = 'also while a process that runs holds the rules of that name';

interface Execution {
  yes?: true;
  takeOver?: boolean;
}

/** Shows what would be run. On standard error that nothing is done, so that the script alone can be piped on. */
function dryRun(steps: readonly Step[]): void {
  process.stdout.write(script(steps));
  process.stderr.write('# A dry run: nothing was changed. Add --yes to run this.\n');
}

const PRIVILEGES: Section = {
  title: 'Privileges',
  text: 'CAP_NET_ADMIN in this network namespace, for a dry run too: it asks what is there.',
};

const NO_PRIVILEGES: Section = { title: 'Privileges', text: 'None.' };

function examples(...lines: string[]): Section {
  return { title: 'Examples', text: lines.join('\n') };
}

function planHere({ family, config: file }: RulesOptions, config: RulesConfig): RulePlan {
  return hostPlan(config, (family ?? file?.families) !== undefined, (message) =>
    process.stderr.write(`# ${message}\n`),
  );
}

function printCommand(): Command {
  const command = common(new Command('print'));
  addRulesOptions(command)
    .optionsGroup('Output:')
    .option('--json', 'print the plan as JSON')
    .summary('print the rules as a shell script')
    .description('Prints the rules as a shell script. Asks nothing of the system; works everywhere.')
    .action(async (options: RulesOptions & { json?: true }) => {
      const plan = await inFlags(options, () => planRules(rulesConfig(command, options)));
      process.stdout.write(
        options.json ? `${JSON.stringify(plan, null, 2)}\n` : printed(plan, backendOf(options)),
      );
    });
  return addSections(
    command,
    NO_PRIVILEGES,
    EXIT_STATUS,
    examples(
      'original-dst rules print --preset sidecar',
      'original-dst rules print --port 15001 --exempt-uid 1337 --backend iptables',
      'original-dst rules print --port 15001 --exempt-mark 7 --ports 80,443 | ssh root@gateway sh',
    ),
  );
}

function applyCommand(): Command {
  const command = common(new Command('apply'));
  addRulesOptions(command)
    .optionsGroup('Execution:')
    .option('-y, --yes', YES)
    .option('--take-over', TAKE_OVER)
    .summary('install the rules (a dry run unless --yes)')
    .description(
      'Installs the rules in this network namespace, in tables and chains of their own name; those of others are not touched. May be repeated. If a step fails, what was there before is brought back.',
    )
    .action((options: RulesOptions & Execution) =>
      inFlags(options, async () => {
        const { yes, takeOver = false } = options;
        const how = { ...backendOf(options), takeOver };
        const config = rulesConfig(command, options);
        const plan = planHere(options, config);
        keepSessions(config);
        if (yes) await uninterrupted(() => apply(plan, how));
        else dryRun(await applyCommands(plan, how));
      }),
    );
  return addSections(
    command,
    PRIVILEGES,
    EXIT_STATUS,
    examples(
      'original-dst rules apply --port 15001 --ports 80,443 --exempt-uid 1337 --yes',
      'original-dst rules apply --port 15006 --mode tproxy --direction inbound --exclude-ports 22 --yes',
    ),
  );
}

function verifyCommand(): Command {
  const command = common(new Command('verify'));
  addRulesOptions(command)
    .summary('compare what is installed with the plan')
    .description('Compares what is installed with what the options ask for and names the first difference.')
    .action(async (options: RulesOptions) => {
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
    });
  return addSections(
    command,
    PRIVILEGES,
    EXIT_STATUS,
    examples('original-dst rules verify --port 15001 --ports 80,443 --exempt-uid 1337'),
  );
}

function removeCommand(): Command {
  const command = common(new Command('remove'));
  command
    .argument('[name]', 'the name the rules were installed under', 'default')
    .option('-y, --yes', YES)
    .option('--take-over', TAKE_OVER)
    .summary('remove installed rules (a dry run unless --yes)')
    .description(
      'Removes what was installed under a name, with either back-end, whole or in part: rules, routing, and settings as they were.',
    )
    .action((name: string, { yes, takeOver = false }: Execution) =>
      inFlags({}, async () => {
        const steps = yes ? [] : await removeCommands(name, { takeOver });
        const found = yes ? await uninterrupted(() => remove(name, { takeOver })) : steps.length > 0;
        if (found) {
          if (!yes) dryRun(steps);
          return;
        }
        const others = await installedNames();
        const hint = others.length > 0 ? ` There are rules under ${others.join(', ')}.` : '';
        process.stderr.write(`# Nothing is installed under the name ${name}.${hint}\n`);
      }),
    );
  return addSections(
    command,
    PRIVILEGES,
    EXIT_STATUS,
    examples('original-dst rules remove', 'original-dst rules remove proxy --yes'),
  );
}

export function rulesCommand(): Command {
  const command = common(new Command('rules'));
  command
    .summary('print, install, check and remove interception rules')
    .description(
      'Rules that send connections to a transparent proxy: nftables or iptables, and the routes of TPROXY.',
    )
    .addCommand(printCommand())
    .addCommand(applyCommand())
    .addCommand(verifyCommand())
    .addCommand(removeCommand());
  return addSections(
    command,
    {
      title: 'Privileges',
      text: 'None for print. CAP_NET_ADMIN in this network namespace for the others.',
    },
    EXIT_STATUS,
    examples(
      'original-dst rules print --preset sidecar',
      'original-dst rules apply --port 15001 --ports 80,443 --exempt-uid 1337 --yes',
      'original-dst rules verify --port 15001 --ports 80,443 --exempt-uid 1337',
      'original-dst rules remove --yes',
    ),
  );
}
