// Tables on the terminal.
import { styleText } from 'node:util';

export interface Column {
  title: string;
  align?: 'right';
}

/** Lines of text in columns as wide as their widest cell, two spaces apart. */
export function table(columns: Column[], rows: string[][]): string[] {
  const widths = columns.map(({ title }, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  return [columns.map(({ title }) => title), ...rows].map((cells) =>
    cells
      .map((cell, i) => (columns[i]!.align === 'right' ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
}

/** Colours on a terminal that has them; NO_COLOR, TERM=dumb and pipes leave the text as it is. */
export type Paint = (colour: 'green' | 'red' | 'bold' | 'gray', text: string) => string;

export function painter(colours: boolean): Paint {
  // validateStream is off because the caller has decided; newer versions of Node would ask standard output again.
  return (colour, text) => (colours ? styleText(colour, text, { validateStream: false }) : text);
}
