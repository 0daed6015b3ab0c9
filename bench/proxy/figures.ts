// What is told of each proxy, and in which table.
import { median } from '../median.ts';
import { type Mode, MODES } from './topology.ts';

interface FigureInfo {
  title: string;
  unit: string;
  /** From the SI unit to `unit`. */
  factor: number;
  /** Without it, nothing to compare by. */
  better?: 'more' | 'less';
}

const cpu = (title: string): FigureInfo => ({ title, unit: 'µs', factor: 1e6, better: 'less' });
const rate = (title: string): FigureInfo => ({ title, unit: '', factor: 1, better: 'more' });
const busy = (title: string): FigureInfo => ({ title, unit: '%', factor: 100 });
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
  proxyBusyConnections: busy("proxy's, connections"),
  othersBusyConnections: busy("client's and server's, connections"),
  proxyBusyRequests: busy("proxy's, requests"),
  othersBusyRequests: busy("client's and server's, requests"),
  proxyBusyBulk: busy("proxy's, 64 streams"),
  othersBusyBulk: busy("client's and server's, 64 streams"),
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
  {
    // A rate says something about the proxy where its processor is the one that is full.
    title: 'Processors busy',
    figures: [
      'proxyBusyConnections',
      'othersBusyConnections',
      'proxyBusyRequests',
      'othersBusyRequests',
      'proxyBusyBulk',
      'othersBusyBulk',
    ],
  },
  { title: 'Decided by name', figures: ['cpuPerHost', 'cpuPerHello', 'p99Host', 'p99Hello'] },
  {
    title: 'CPU / keep-alive request beside idle connections',
    figures: ['cpuBeside1', 'cpuBeside100', 'cpuBeside1000', 'cpuBesideMost'],
  },
];

/** Figures that have been measured, in SI units. */
export type Values = Partial<Record<Figure, number>>;

/** What was measured of a proxy in one slice. */
export interface Sample {
  mode: Mode;
  peer: string;
  round: number;
  /** What wrk(1) could not do. */
  errors: number;
  values: Values;
}

/** What is told of a proxy. */
export interface Row {
  mode: Mode;
  peer: string;
  /** Of all slices. */
  errors: number;
  /** Medians. */
  values: Values;
  /** To the best of HAProxy and nginx: medians of the ratios to what that had in the same round. */
  ratios: Values;
}

/** By round. */
type Series = Map<number, number>;

function samplesOf(samples: readonly Sample[], mode: Mode, peer: string): Sample[] {
  return samples.filter((sample) => sample.mode === mode && sample.peer === peer);
}

/** Of one proxy. */
function seriesOf(samples: readonly Sample[], figure: Figure): Series {
  const series: Series = new Map();
  for (const { round, values } of samples) {
    const value = values[figure];
    if (value !== undefined) series.set(round, value);
  }
  return series;
}

/** HAProxy (with or without splice-auto) or nginx, whichever is best in a mode: what the others are compared with. */
function reference(
  samples: readonly Sample[],
  mode: Mode,
  order: readonly string[],
  figure: Figure,
): Series | undefined {
  const { better } = FIGURES[figure];
  if (better === undefined) return undefined;
  const sign = better === 'less' ? 1 : -1;
  const candidates = order
    .filter((peer) => /^(HAProxy|nginx)/.test(peer))
    .map((peer) => seriesOf(samplesOf(samples, mode, peer), figure))
    .filter(({ size }) => size > 0)
    .map((series) => ({ series, rank: sign * median([...series.values()]) }));
  return candidates.sort((a, b) => a.rank - b.rank)[0]?.series;
}

/** Without the noise of the machine, which both have had at about the same time. */
function ratioOf(own: Series, best: Series): number | undefined {
  const ratios = [...own].flatMap(([round, value]) => {
    const other = best.get(round);
    return other === undefined ? [] : value / other;
  });
  return ratios.length === 0 ? undefined : median(ratios);
}

/** One row for each proxy and mode. `against`: the mode whose best is compared with, if not each its own. */
export function summarize(samples: readonly Sample[], order: readonly string[], against?: Mode): Row[] {
  const rows: Row[] = [];
  for (const mode of MODES) {
    const best = new Map(
      (Object.keys(FIGURES) as Figure[]).map((figure) => [
        figure,
        reference(samples, against ?? mode, order, figure),
      ]),
    );
    for (const peer of order) {
      const own = samplesOf(samples, mode, peer);
      if (own.length === 0) continue;
      const row: Row = { mode, peer, errors: 0, values: {}, ratios: {} };
      for (const { errors } of own) row.errors += errors;
      for (const [figure, other] of best) {
        const series = seriesOf(own, figure);
        if (series.size === 0) continue;
        row.values[figure] = median([...series.values()]);
        const ratio = other && ratioOf(series, other);
        if (ratio !== undefined) row.ratios[figure] = ratio;
      }
      rows.push(row);
    }
  }
  return rows;
}
