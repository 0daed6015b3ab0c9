// npm run bench:proxy [-- --seconds N --rounds N --idle N --figures LOAD,LOAD --modes MODE,MODE --only TEXT --skip TEXT --record]
// Transparent proxies side by side: the same hosts, the same server, the same load. All of them are there all the time, and
// take turns: in each round each has one slice of a second. A shared machine is a third faster or slower from one minute
// to the next, so that a figure is compared with that of the same round. As root, by eBPF capture too. Prints Markdown
// tables of medians and ratios.
//   --figures: of setup, keepalive, bulk, names (by turns), and idle, scale (once, of a process that has done nothing else).
//     `--figures setup --rounds 1` takes seconds.
//   --modes: of redirect, tproxy, ebpf
//   --only, --skip: peers whose names have TEXT in them; may be given several times
//   --record: write bench/results/proxy.json and proxy.svg, of what has been measured
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { enterNamespace } from './namespace.ts';
import { type Sample, summarize } from './proxy/figures.ts';
import { type Load, loads } from './proxy/loads.ts';
import { maxConnections, pins } from './proxy/measure.ts';
import { type Peer, peers, startSocks } from './proxy/peers.ts';
import { writePlot } from './proxy/plot.ts';
import { printTables, writeSamples } from './proxy/report.ts';
import { startServer } from './proxy/server.ts';
import { buildHosts, MODES } from './proxy/topology.ts';
import { takeSamples } from './proxy/turns.ts';

const TOOLS = ['unshare', 'ip', 'nft', 'curl', 'nginx', 'wrk', 'gnuplot'];

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '9' },
    idle: { type: 'string', default: '10000' },
    figures: { type: 'string', default: Object.keys(loads).join() },
    modes: { type: 'string', default: MODES.join() },
    only: { type: 'string', multiple: true },
    skip: { type: 'string', multiple: true, default: [] },
    record: { type: 'boolean', default: false },
  },
});
const wanted = values.figures.split(',');
const unknown = wanted.find((name) => loads[name] === undefined);
if (unknown !== undefined) {
  console.error(`--figures ${unknown}: there are ${Object.keys(loads).join(', ')}`);
  process.exit(2);
}
const named = (texts: string[], name: string): boolean => texts.some((text) => name.includes(text));
const takes = (peer: Peer, load: Load): boolean => load.byName === peer.byName;
const compared = peers.filter(
  (peer) =>
    (values.only === undefined || named(values.only, peer.name)) &&
    !named(values.skip, peer.name) &&
    wanted.some((load) => takes(peer, loads[load]!)),
);

const isRoot = process.getuid!() === 0;
const wantedModes = values.modes.split(',');
const modes = MODES.filter((mode) => wantedModes.includes(mode) && (mode !== 'ebpf' || isRoot));
if (!isRoot && wantedModes.includes('ebpf')) console.error('not as root: nothing is captured by eBPF');
for (const peer of compared) peer.ensure?.();
enterNamespace({
  tools: TOOLS.concat(compared.flatMap((peer) => peer.tools ?? [])),
  // A proxy has two for each of 10,000 connections, and some to spare.
  descriptors: 100_000,
  // BPF programs are not for the root of a user namespace.
  root: isRoot,
});

const options = {
  seconds: Number(values.seconds),
  rounds: Number(values.rounds),
  // The load has connections of its own beside the idle ones.
  idle: Math.min(Number(values.idle), maxConnections() - 500),
};

const directory = mkdtempSync(join(tmpdir(), 'bench-proxy-'));
buildHosts();
const stopServer = await startServer(directory, pins.others);
const stopSocks = compared.some(({ viaSocks }) => viaSocks) ? startSocks(pins.others) : undefined;
const samples: Sample[] = [];
try {
  for (const load of wanted) {
    const able = compared.filter((peer) => takes(peer, loads[load]!));
    samples.push(...(await takeSamples(load, able, { ...options, modes, directory })));
  }
} finally {
  stopSocks?.();
  stopServer();
  rmSync(directory, { recursive: true });
}

const order = compared.map(({ name }) => name);
const rows = summarize(samples, order);
printTables(rows, summarize(samples, order, 'redirect'), options);
if (values.record) {
  // From dist/bench; the results stay with the sources.
  const results = fileURLToPath(new URL('../../bench/results', import.meta.url));
  mkdirSync(results, { recursive: true });
  writeSamples(join(results, 'proxy.json'), rows, samples, options);
  writePlot(join(results, 'proxy.svg'), rows);
}
