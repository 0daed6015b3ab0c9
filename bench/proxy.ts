// npm run bench:proxy [-- --seconds N --rounds N --idle N --figures LOAD,LOAD --modes MODE,MODE --only TEXT --skip TEXT --record]
// Transparent proxies side by side: the same hosts, the same server, the same load, rounds interleaved in one run, so
// that a noisy machine is noisy for all. As root, by eBPF capture too. Prints Markdown tables of medians and ratios.
//   --figures: of setup, keepalive, bulk, idle, scale, names (idle and scale in the first round only); each is measured of a
//     process of its own, with or without the others. `--figures setup --rounds 1 --seconds 1` takes seconds.
//   --modes: of redirect, tproxy, ebpf
//   --only, --skip: peers whose names have TEXT in them; may be given several times
//   --record: write bench/results/proxy.json and proxy.svg, of what has been measured
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { enterNamespace } from './namespace.ts';
import { medians, type Sample } from './proxy/figures.ts';
import { BY_NAME, loads, onceOnly, type LoadResult } from './proxy/loads.ts';
import { maxConnections, pins } from './proxy/measure.ts';
import { peers, start, startSocks, type Peer } from './proxy/peers.ts';
import { writePlot } from './proxy/plot.ts';
import { printTables, writeSamples } from './proxy/report.ts';
import { checkProxied, startServer } from './proxy/server.ts';
import { buildHosts, makeCgroup, MODES, setRules, type Mode } from './proxy/topology.ts';

const TOOLS = ['unshare', 'ip', 'nft', 'curl', 'nginx', 'wrk', 'gnuplot'];

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '3' },
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
const takes = (peer: Peer, load: string): boolean => BY_NAME.has(load) === (peer.byName === true);
const compared = peers.filter(
  (peer) =>
    (values.only === undefined || named(values.only, peer.name)) &&
    !named(values.skip, peer.name) &&
    wanted.some((load) => takes(peer, load)),
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

async function measure(peer: Peer, mode: Mode, load: string, directory: string): Promise<LoadResult> {
  setRules(mode);
  const proxy = await start(peer, mode, directory, pins.proxy);
  try {
    // nginx's ssl_preread has nothing to go by in plain HTTP.
    if (peer.name !== 'nginx ssl_preread') checkProxied(mode, peer.viaSocks);
    return await loads[load]!(proxy.pid, options);
  } finally {
    await proxy.stop();
  }
}

async function takeSample(peer: Peer, mode: Mode, round: number, directory: string): Promise<Sample> {
  const sample: Sample = { mode, peer: peer.name, round, errors: 0, values: {} };
  for (const load of wanted) {
    if (round > 1 && onceOnly.has(load)) continue;
    if (!takes(peer, load)) continue;
    process.stderr.write(`round ${round}: ${mode}, ${peer.name}, ${load}\n`);
    try {
      const { values, errors } = await measure(peer, mode, load, directory);
      Object.assign(sample.values, values);
      sample.errors += errors;
    } catch (error) {
      // The others' figures are not lost by it; this one's is missing from the table.
      console.error(`${peer.name}, ${load}:`, error);
      process.exitCode = 1;
    }
  }
  return sample;
}

const directory = mkdtempSync(join(tmpdir(), 'bench-proxy-'));
buildHosts();
if (isRoot) makeCgroup();
const stopServer = await startServer(directory, pins.others);
const stopSocks = compared.some(({ viaSocks }) => viaSocks) ? startSocks(pins.others) : undefined;
const samples: Sample[] = [];
try {
  for (let round = 1; round <= options.rounds; round++) {
    for (const mode of modes) {
      const able = compared.filter((peer) => peer.modes.includes(mode));
      // Another begins each time, so that nobody is always the first.
      for (let turn = 0; turn < able.length; turn++) {
        const peer = able[(round - 1 + turn) % able.length]!;
        samples.push(await takeSample(peer, mode, round, directory));
      }
    }
  }
} finally {
  stopSocks?.();
  stopServer();
  rmSync(directory, { recursive: true });
}

const order = compared.map(({ name }) => name);
const rows = medians(samples, order);
printTables(rows, options);
if (values.record) {
  // From dist/bench; the results stay with the sources.
  const results = fileURLToPath(new URL('../../bench/results', import.meta.url));
  mkdirSync(results, { recursive: true });
  writeSamples(join(results, 'proxy.json'), rows, samples, options);
  writePlot(join(results, 'proxy.svg'), rows);
}
