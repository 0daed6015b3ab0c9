// The `original-dst` command: its parts, each of which imports what it does when it is asked to, and how it ends.
import { Command, CommanderError } from 'commander';
import { createRequire } from 'node:module';
import { doctorCommand } from './doctor.ts';
import { demoCommand } from './demo.ts';
import { addSections, common, EXIT_STATUS } from './help.ts';
import { complain } from './output.ts';
import { proxyCommand } from './proxy.ts';
import { rulesCommand } from './rules.ts';
import { runCommand } from './run-command.ts';

const USAGE = 2;

function program(): Command {
  const { version } = createRequire(import.meta.url)('original-dst/package.json') as { version: string };
  const command = common(new Command('original-dst'));
  command
    .description('Where was this intercepted connection really going? Transparent proxying on Linux.')
    .version(version, '-V, --version')
    .enablePositionalOptions()
    .addCommand(runCommand())
    .addCommand(proxyCommand())
    .addCommand(rulesCommand())
    .addCommand(doctorCommand())
    .addCommand(demoCommand());
  return addSections(
    command,
    EXIT_STATUS,
    {
      title: 'Environment',
      text: `NO_COLOR, FORCE_COLOR  without colours, with colours, whatever standard output is
SSH_CONNECTION         rules that would capture connections like this session’s are refused; unset: like
                       those of any SSH session found here; empty: there is none to keep`,
    },
    {
      title: 'Examples',
      text: `original-dst doctor                         what hinders interception here?
original-dst run -- npm ci                  what does a command talk to?
original-dst demo                           see it work
original-dst rules print --preset sidecar   the rules of a service mesh’s pod
original-dst proxy --with-rules             intercept what this host sends`,
    },
  );
}

/** Throws instead of exiting, all commands below included: the exit status is decided in one place. */
function overrideExit(command: Command): Command {
  command.exitOverride();
  for (const below of command.commands) overrideExit(below);
  return command;
}

/**
 * Runs the command line. Standard output is the answer, standard error is about it.
 *
 * @returns when it is done; the exit status is in process.exitCode
 */
export async function main(argv: readonly string[]): Promise<void> {
  try {
    await overrideExit(program()).parseAsync(argv);
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help that was asked for is 0; help because no command was given is not.
      process.exitCode = error.exitCode === 0 ? 0 : USAGE;
      return;
    }
    complain((error as Error).message);
    process.exitCode = 1;
  }
}
