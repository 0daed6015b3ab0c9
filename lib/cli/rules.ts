// `original-dst rules`.
import { Command } from 'commander';
import { addSections, common, EXIT_STATUS, type Section } from './help.ts';
import { addRulesOptions, type RulesOptions } from './rules-options.ts';
import type { Execution } from './run-rules.ts';

const YES = 'do it; without, only show what would be run';
const TAKE_OVER = 'also while a process that runs holds the rules of that name';

const PRIVILEGES: Section = {
  title: 'Privileges',
  text: 'CAP_NET_ADMIN in this network namespace, for a dry run too: it asks what is there.',
};

const NO_PRIVILEGES: Section = { title: 'Privileges', text: 'None.' };

function examples(...lines: string[]): Section {
  return { title: 'Examples', text: lines.join('\n') };
}

function printCommand(): Command {
  const command = common(new Command('print'));
  addRulesOptions(command)
    .optionsGroup('Output:')
    .option('--json', 'print the plan as JSON')
    .summary('print the rules as a shell script')
    .description('Prints the rules as a shell script. Asks nothing of the system; works everywhere.')
    .action(async (options: RulesOptions & { json?: true }) => {
      const { printRules } = await import('./run-rules.ts');
      await printRules(command, options);
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
    .action(async (options: RulesOptions & Execution) => {
      const { applyRules } = await import('./run-rules.ts');
      await applyRules(command, options);
    });
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
      const { verifyRules } = await import('./run-rules.ts');
      await verifyRules(command, options);
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
    .action(async (name: string, how: Execution) => {
      const { removeRules } = await import('./run-rules.ts');
      await removeRules(name, how);
    });
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
