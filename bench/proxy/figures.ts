// What is told of each proxy, and in which table.
import { type Mode, MODES } from './topology.ts';

interface FigureInfo {
  title: string;
  unit: string;
  /** From the SI unit to `unit`. */
  factor: number;
  better: 'more' | 'less';
}

const cpu = (title: string): FigureInfo => ({ title, unit: 'µs', factor: 1e6, better: 'less' });
const rate = (title: string): FigureInfo => ({ title, unit: '', factor: 1, better: 'more' });
const latency = (title: string): FigureInfo => ({ title, unit: 'ms', factor: 1e3, better: 'less' });

const FIGURE_INFO = {
  cpuPerConnection: cpu('CPU / connection'),
  cpuPerRequest: cpu('CPU / keep-alive request'),
  cpuPerGib: { title: 'CPU / GiB', unit: 'ms', factor: 1e3, better: 'less' },
  bytesPerIdle: { title: 'RSS / idle connection', unit: 'kB', factor: 1e-3, better: 'less' },
  connectionsPerSecond: rate('connections / s'),
  requestsPerSecond: rate('requests / s'),
  gibPerSecond1: rate('GiB/s, 1 stream'),
  gibPerSecond64: rate('GiB/s, 64 streams'),
  p50: latency('p50 latency'),
  p99: latency('p99 latency'),
  cpuPerHost: cpu('CPU / connection, HTTP'),
  cpuPerHello: cpu('CPU / connection, TLS'),
  p99Host: latency('p99 latency, HTTP'),
  p99Hello: latency('p99 latency, TLS'),
  cpuBeside1: cpu('1 idle'),
  cpuBeside100: cpu('100 idle'),
  cpuBeside1000: cpu('1,000 idle'),
  cpuBesideMost: cpu('all idle'),
} satisfies Record<string, FigureInfo>;

export type Figure = keyof typeof FIGURE_INFO;
export const FIGURES: Record<Figure, FigureInfo> = FIGURE_INFO;

export const TABLES: { title: string; figures: Figure[] }[] = [
  { title: 'Cost', figures: ['cpuPerConnection', 'cpuPerRequest', 'cpuPerGib', 'bytesPerIdle'] },
  {
    title: 'Speed',
    figures: ['connectionsPerSecond', 'requestsPerSecond', 'gibPerSecond1', 'gibPerSecond64', 'p50', 'p99'],
  },
  { title: 'Decided by name', figures: ['cpuPerHost', 'cpuPerHello', 'p99Host', 'p99Hello'] },
  {
    title: 'CPU / keep-alive request beside idle connections',
    figures: ['cpuBeside1', 'cpuBeside100', 'cpuBeside1000', 'cpuBesideMost'],
  },
];

/** Figures that have been measured, in SI units. */
export type Values = Partial<Record<Figure, number>>;

export interface Row {
  mode: Mode;
  peer: string;
  /** What wrk(1) could not do. */
  errors: number;
  values: Values;
}

export interface Sample extends Row {
  round: number;
}

function median(numbers: number[]): number {
  return [...numbers].sort((a, b) => a - b)[numbers.length >> 1]!;
}

/** One row for each proxy and mode: medians of the figures over the rounds, the sum of the errors. */
export function medians(samples: Sample[], order: string[]): Row[] {
  const rows: Row[] = [];
  for (const mode of MODES) {
    for (const peer of order) {
      const own = samples.filter((sample) => sample.mode === mode && sample.peer === peer);
      if (own.length === 0) continue;
      const values: Values = {};
      for (const figure of Object.keys(FIGURES) as Figure[]) {
        const measured = own.flatMap((sample) => sample.values[figure] ?? []);
        if (measured.length > 0) values[figure] = median(measured);
      }
      rows.push({ mode, peer, errors: own.reduce((sum, { errors }) => sum + errors, 0), values });
    }
  }
  return rows;
}

/** The best that HAProxy (with or without splice-auto) and nginx do in a mode: what the others are compared with. */
export function reference(rows: Row[], mode: Mode, figure: Figure): number | undefined {
  const values = rows
    .filter((row) => row.mode === mode && /^(HAProxy|nginx)/.test(row.peer))
    .flatMap((row) => row.values[figure] ?? []);
  if (values.length === 0) return undefined;
  return FIGURES[figure].better === 'less' ? Math.min(...values) : Math.max(...values);
}
