// Medians over the rounds, as ratios to HAProxy's better figure; JSON and a plot.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { arch, cpus, release } from 'node:os';
import { join } from 'node:path';
import type { Mode } from './topology.ts';

export interface Sample {
  peer: string;
  mode: Mode;
  connectionsPerSecond: number;
  /** Seconds of the proxy's CPU. */
  cpuPerConnection: number;
  requestsPerSecond: number;
  cpuPerRequest: number;
  /** Seconds. */
  p50: number;
  p99: number;
  gibPerSecond1: number;
  gibPerSecond64: number;
  cpuPerGib: number;
  bytesPerIdle: number;
  errors: number;
  scale: { idle: number; cpuPerRequest: number; p99: number }[];
}

type Figure = Exclude<keyof Sample, 'peer' | 'mode' | 'scale'>;

const FIGURES: { key: Figure; title: string; unit: string; factor: number; better: 'more' | 'less' }[] = [
  { key: 'cpuPerConnection', title: 'CPU / connection', unit: 'µs', factor: 1e6, better: 'less' },
  { key: 'cpuPerRequest', title: 'CPU / keep-alive request', unit: 'µs', factor: 1e6, better: 'less' },
  { key: 'cpuPerGib', title: 'CPU / GiB', unit: 'ms', factor: 1e3, better: 'less' },
  { key: 'connectionsPerSecond', title: 'connections / s', unit: '', factor: 1, better: 'more' },
  { key: 'requestsPerSecond', title: 'requests / s', unit: '', factor: 1, better: 'more' },
  { key: 'gibPerSecond1', title: 'GiB/s, 1 stream', unit: '', factor: 1, better: 'more' },
  { key: 'gibPerSecond64', title: 'GiB/s, 64 streams', unit: '', factor: 1, better: 'more' },
  { key: 'p50', title: 'p50 latency', unit: 'ms', factor: 1e3, better: 'less' },
  { key: 'p99', title: 'p99 latency', unit: 'ms', factor: 1e3, better: 'less' },
  { key: 'bytesPerIdle', title: 'RSS / idle connection', unit: 'kB', factor: 1e-3, better: 'less' },
];

function median(numbers: number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** mode → peer → figure → median */
function medians(samples: Sample[], mode: Mode): Map<string, Record<Figure, number>> {
  const result = new Map<string, Record<Figure, number>>();
  for (const { peer } of samples.filter((sample) => sample.mode === mode)) {
    const own = samples.filter((sample) => sample.mode === mode && sample.peer === peer);
    const of = (key: Figure): number => median(own.map((sample) => sample[key]));
    const keys = [...FIGURES.map(({ key }) => key), 'errors' as const];
    result.set(peer, Object.fromEntries(keys.map((key) => [key, of(key)])) as Record<Figure, number>);
  }
  return result;
}

function modesOf(samples: Sample[]): Mode[] {
  return [...new Set(samples.map(({ mode }) => mode))];
}

/** A Markdown table a mode: the figure, and in brackets its ratio to HAProxy's better one. */
export function printReport(samples: Sample[]): void {
  for (const mode of modesOf(samples)) {
    const table = medians(samples, mode);
    const names = [...table.keys()];
    console.log(`\n${mode} (× HAProxy's better figure)\n`);
    console.log(`| | ${names.join(' | ')} |\n|---|${names.map(() => '---:').join('|')}|`);
    for (const { key, title, unit, factor, better } of FIGURES) {
      const reference = names
        .filter((name) => name.startsWith('HAProxy'))
        .map((name) => table.get(name)![key]);
      const best = better === 'less' ? Math.min(...reference) : Math.max(...reference);
      const cells = names.map((name) => {
        const value = table.get(name)![key];
        return `${(value * factor).toPrecision(3)} ${unit} (${(value / best).toFixed(2)}×)`;
      });
      console.log(`| ${title} | ${cells.join(' | ')} |`);
    }
    console.log(`| errors | ${names.map((name) => table.get(name)!.errors).join(' | ')} |`);
    for (const idle of samples[0]!.scale.map((step) => step.idle)) {
      const cells = names.map((name) => {
        const steps = samples.filter((sample) => sample.mode === mode && sample.peer === name);
        const step = (sample: Sample) => sample.scale.find((candidate) => candidate.idle === idle)!;
        return `${(median(steps.map((sample) => step(sample).cpuPerRequest)) * 1e6).toPrecision(3)} µs`;
      });
      console.log(`| CPU / request with ${idle} idle connections | ${cells.join(' | ')} |`);
    }
  }
}

/** proxy.json (every sample) and proxy.svg (CPU ratios, by gnuplot). */
export function writeReport(samples: Sample[], directory: string): void {
  const machine = {
    kernel: release(),
    arch: arch(),
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    node: process.version,
  };
  writeFileSync(join(directory, 'proxy.json'), `${JSON.stringify({ machine, samples }, null, 1)}\n`);

  const shown = FIGURES.slice(0, 3);
  const table = medians(samples, 'redirect');
  const rows = [...table].map(([name, row]) => {
    const ratios = shown.map(({ key }) => row[key] / table.get('HAProxy')![key]);
    return `"${name}" ${ratios.join(' ')}`;
  });
  const script = `set terminal svg size 900,420 font "sans-serif,13" background "#ffffff"
set output "${join(directory, 'proxy.svg')}"
set title "Proxy CPU relative to HAProxy (less is better), REDIRECT"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set yrange [0:*]
set grid ytics
set key top left
$data << EOD
${rows.join('\n')}
EOD
plot ${shown.map(({ title }, index) => `$data using ${index + 2}:xtic(1) title "${title}"`).join(', ')}, 1 with lines dt 2 lc "black" notitle
`;
  execFileSync('gnuplot', { input: script });
}
