// The CPU figures as ratios to the best of HAProxy and nginx: an SVG by gnuplot, a panel each for REDIRECT, TPROXY and eBPF capture.
import { execFileSync } from 'node:child_process';
import { type Figure, FIGURES, type Row } from './figures.ts';
import { type Mode, MODES, MODE_TITLES } from './topology.ts';

const SHOWN: Figure[] = ['cpuPerConnection', 'cpuPerRequest', 'cpuPerGib'];

function panel(rows: Row[], mode: Mode): string {
  const own = rows.filter((row) => row.mode === mode);
  const ratio = ({ ratios }: Row, figure: Figure): number => ratios[figure] ?? Number.NaN;
  // gnuplot takes no figure that nobody has.
  const shown = SHOWN.filter((figure) => own.some((row) => Number.isFinite(ratio(row, figure))));
  const lines = own
    .map((row) => ({ peer: row.peer, ratios: shown.map((figure) => ratio(row, figure)) }))
    .filter(({ ratios }) => ratios.some(Number.isFinite))
    .map(({ peer, ratios }) => `"${peer}" ${ratios.join(' ')}`);
  const bars = shown.map(
    (figure, index) => `$${mode} using ${index + 2}:xtic(1) title "${FIGURES[figure].title}"`,
  );
  return `set title "${MODE_TITLES[mode]}"
$${mode} << EOD
${lines.join('\n')}
EOD
plot ${[...bars, '1 with lines dt 2 lc "black" notitle'].join(', ')}
`;
}

export function writePlot(file: string, rows: Row[]): void {
  const modes = MODES.filter((mode) => rows.some((row) => row.mode === mode));
  const panels = modes.map((mode, index) => (index === 1 ? 'set key top right\n' : '') + panel(rows, mode));
  // A logarithmic axis: twice the CPU is as far from 1 as half of it. The panels have one range, to be compared.
  const script = `set terminal svg size ${570 * modes.length},560 font "sans-serif,13" background "#ffffff"
set output "${file}"
set multiplot layout 1,${modes.length} title "Proxy CPU relative to the best of HAProxy and nginx (less is better)"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set logscale y 2
set yrange [0.125:32]
set xtics rotate by -35 nomirror
set grid ytics
set rmargin 16
set bmargin 9
unset key
${panels.join('')}unset multiplot
`;
  execFileSync('gnuplot', { input: script });
}
