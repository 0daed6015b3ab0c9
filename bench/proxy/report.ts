// Markdown tables of the medians, and the file of all samples.
import { writeFileSync } from 'node:fs';
import { arch, cpus, release } from 'node:os';
import { type Figure, FIGURES, type Row, type Sample, TABLES } from './figures.ts';
import { type Mode, MODE_TITLES } from './topology.ts';
import { versions } from './versions.ts';

/** Marks a peer under whose load wrk(1) saw errors. */
const MARK = '†';

function readable(number: number): string {
  return Number(number.toPrecision(3)).toLocaleString('en-US');
}

function cell({ values, ratios }: Row, figure: Figure): string {
  const value = values[figure];
  if (value === undefined || !Number.isFinite(value)) return '-';
  const { factor, unit } = FIGURES[figure];
  const text = `${readable(value * factor)} ${unit}`.trim();
  const ratio = ratios[figure];
  return ratio === undefined ? text : `${text} (${ratio.toFixed(2)}×)`;
}

/** A table as prettier leaves it: the first column to the left, the others to the right. */
export function markdown(lines: string[][]): string {
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length), 4));
  const text = lines.map((line) =>
    line.map((entry, column) => (column === 0 ? entry.padEnd(widths[0]!) : entry.padStart(widths[column]!))),
  );
  const rule = widths.map((width, column) =>
    column === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`,
  );
  return [text[0]!, rule, ...text.slice(1)].map((line) => `| ${line.join(' | ')} |`).join('\n');
}

function printMode(rows: Row[], mode: Mode, remark = ''): void {
  const own = rows.filter((row) => row.mode === mode);
  for (const { title, figures } of TABLES) {
    const measured = figures.filter((figure) => own.some((row) => row.values[figure] !== undefined));
    if (measured.length === 0) continue;
    const head = ['', ...measured.map((figure) => FIGURES[figure].title), 'errors'];
    const told = own.filter((row) => measured.some((figure) => row.values[figure] !== undefined));
    const body = told.map((row) => [
      row.errors > 0 ? `${row.peer} ${MARK}` : row.peer,
      ...measured.map((figure) => cell(row, figure)),
      String(row.errors),
    ]);
    console.log(`\n${title}, ${MODE_TITLES[mode]}${remark}:\n\n${markdown([head, ...body])}`);
  }
}

/** Some tables a mode, each without what has not been measured, and without those it was not measured of. */
export function printTables(
  rows: Row[],
  againstRedirect: Row[],
  options: { rounds: number; seconds: number; idle: number },
): void {
  const { rounds, seconds, idle } = options;
  console.log(
    `Medians of ${rounds} rounds, ${seconds} s a transfer, ${readable(idle)} idle connections; in brackets the ratio to ` +
      `the best of HAProxy and nginx, the median of those of each round; errors: of all rounds and loads, ${MARK} where ` +
      `there are any.`,
  );
  const named = Object.entries(versions(rows.map(({ peer }) => peer)));
  console.log(`\n${named.map((each) => each.join(' ')).join(', ')}; Linux ${release()}.`);
  const modes = new Set(rows.map(({ mode }) => mode));
  for (const mode of modes) printMode(rows, mode);
  // What it is there for: to spare what REDIRECT costs.
  if (modes.has('ebpf') && modes.has('redirect')) {
    const remark = `, in brackets the ratio to the best of them under ${MODE_TITLES.redirect}`;
    printMode(againstRedirect, 'ebpf', remark);
  }
}

/** A row or sample on one line, its figures with four digits. */
function json(entry: Row | Sample): string {
  return JSON.stringify(entry, (_key, value: unknown) =>
    typeof value === 'number' ? Number(value.toPrecision(4)) : value,
  );
}

/** Where it was measured. */
export function machine(): object {
  return {
    kernel: release(),
    arch: arch(),
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    node: process.version,
  };
}

/** The medians and all samples, a line each. */
export function writeSamples(file: string, rows: Row[], samples: Sample[], options: object): void {
  const list = (entries: (Row | Sample)[]): string => `[\n${entries.map(json).join(',\n')}\n]`;
  writeFileSync(
    file,
    `{
"machine": ${JSON.stringify(machine())},
"versions": ${JSON.stringify(versions(rows.map(({ peer }) => peer)))},
"options": ${JSON.stringify(options)},
"units": "seconds, bytes, GiB",
"medians": ${list(rows)},
"samples": ${list(samples)}
}
`,
  );
}
