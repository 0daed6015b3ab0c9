// Words, colours and numbers on the terminal.
import { inspect } from 'node:util';
import type { Command } from 'commander';

export type Style = 'bold' | 'dim' | 'underline' | 'red' | 'green' | 'yellow' | 'cyan';
export type Paint = (style: Style, text: string) => string;

/** Wraps text in the terminal's codes for a style. */
export const styled: Paint = (style, text) => {
  const [on, off] = inspect.colors[style]!;
  return `\u001b[${on}m${text}\u001b[${off}m`;
};

const plain: Paint = (_, text) => text;

/** Colours where standard output shows them: NO_COLOR and FORCE_COLOR first, then whether it is a terminal. */
export function paintFor(command: Command): Paint {
  return command.configureOutput().getOutHasColors!() ? styled : plain;
}

/** What went wrong, for people: errors of this package carry their hint in the message. */
export function complaint(message: string): string {
  return `original-dst: ${message}`;
}

export function complain(message: string): void {
  process.stderr.write(`${complaint(message)}\n`);
}

/** Breaks text into lines of at most `width` characters, each behind `indent`. */
export function wrap(text: string, indent: string, width: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent.length + line.length + 1 + word.length > width) {
      lines.push(line);
      line = '';
    }
    line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].map((each) => `${indent}${each}\n`).join('');
}

/** A byte count that people can read: `1.2 MB`. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length - 1, count === 0 ? 0 : Math.floor(Math.log10(count) / 3));
  return power === 0 ? `${count} B` : `${(count / 1000 ** power).toFixed(1)} ${units[power]}`;
}
