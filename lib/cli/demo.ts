// `original-dst demo`.
import { Command } from 'commander';
import { addSections, common, EXIT_STATUS } from './help.ts';

export function demoCommand(): Command {
  const command = common(new Command('demo'));
  command
    .summary('show interception at work in a private network')
    .description(
      'Builds a network of its own, intercepts connections in it in several ways and prints what each was recovered as. Leaves nothing behind.',
    )
    .action(async () => {
      const { runDemo } = await import('../demo/run.ts');
      process.exitCode = await runDemo();
    });
  return addSections(
    command,
    { title: 'Privileges', text: 'None where user namespaces are allowed, else root.' },
    EXIT_STATUS,
    { title: 'Examples', text: 'original-dst demo' },
  );
}
