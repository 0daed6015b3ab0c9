// What all help texts of the command have in common, and its exit codes.
import { type Command, Option } from 'commander';
import { styled } from './output.ts';

/** One part of a help text below the options: `EXAMPLES` and what stands there. */
export interface Section {
  title: string;
  text: string;
}

export const EXIT_STATUS: Section = {
  title: 'Exit status',
  text: `0  as it should be
1  a problem was found, or what was asked for failed
2  the command line was wrong`,
};

/** Adds sections below the options. Styles are taken out again by commander where they are not wanted. */
export function addSections(command: Command, ...sections: Section[]): Command {
  const text = sections
    .map(({ title, text }) => `\n${styled('bold', `${title}:`)}\n${text.replaceAll(/^(?=.)/gm, '  ')}`)
    .join('\n');
  return command.addHelpText('after', text);
}

/** What all commands have in common. */
export function common(command: Command): Command {
  return command
    .configureHelp({
      styleTitle: (title) => styled('bold', title),
      styleOptionText: (text) => styled('cyan', text),
      styleSubcommandText: (text) => styled('cyan', text),
    })
    .showHelpAfterError('(add --help for the whole story)')
    .allowExcessArguments(false);
}

/** An option with a fixed set of values. */
export function choice(flags: string, description: string, choices: readonly string[]): Option {
  return new Option(flags, description).choices(choices);
}
