// What bench:scale has measured: tables, a file of all figures, and the plot.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { machine, markdown } from '../proxy/report.ts';

/** What one costs when there are so many. */
export interface Point {
  count: number;
  /** Microseconds of CPU. */
  cost: number;
  /** A further column of the table. */
  note?: string;
}

export interface Series {
  /** What there are many of. */
  many: string;
  /** One of what the cost is. */
  one: string;
  /** Title of the further column. */
  noted?: string;
  points: Point[];
}

const readable = (cost: number): string => `${cost.toFixed(cost < 10 ? 2 : 1)} µs`;

export function table({ many, one, noted, points }: Series): string {
  const first = points[0]!.cost;
  return markdown([
    [many, `CPU / ${one}`, '× the first', ...(noted === undefined ? [] : [noted])],
    ...points.map(({ count, cost, note = '' }) => [
      count.toLocaleString('en-US'),
      readable(cost),
      (cost / first).toFixed(2),
      ...(noted === undefined ? [] : [note]),
    ]),
  ]);
}

/** A line each, its cost as a multiple of that with the fewest. */
function plot(file: string, all: Series[]): void {
  const data = all.map(
    ({ points }, index) =>
      `$s${index} << EOD\n${points.map(({ count, cost }) => `${count} ${cost / points[0]!.cost}`).join('\n')}\nEOD`,
  );
  const lines = all.map(
    ({ many, one }, index) => `$s${index} with linespoints lw 2 title "CPU / ${one} by ${many}"`,
  );
  const script = `set terminal svg size 900,520 font "sans-serif,13" background "#ffffff"
set output "${file}"
set title "What one costs when there are many, relative to the fewest (1: it does not grow)"
set logscale x 10
set xrange [0.8:*]
set yrange [0:3]
set xlabel "how many"
set grid
set key top left
${data.join('\n')}
plot ${lines.join(', ')}, 1 with lines dt 2 lc "black" notitle
`;
  execFileSync('gnuplot', { input: script });
}

/** Writes scale.json and scale.svg. */
export function record(directory: string, all: Series[], options: object): void {
  const text = { machine: machine(), options, units: 'microseconds of CPU', series: all };
  writeFileSync(join(directory, 'scale.json'), `${JSON.stringify(text, null, 2)}\n`);
  // Threads are two points, and no line.
  plot(
    join(directory, 'scale.svg'),
    all.filter(({ points }) => points.length > 2),
  );
}
