// Usage: fuzz [SECONDS]: each fuzzer of test/fuzz/ for that long (60 unless told), then the property tests with as
// many more runs. What a fuzzer finds interesting stays in .cache/fuzz/ for the next time.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Fuzzer, fuzzers } from './fuzzers.ts';
import { ensureTools, root } from './native.ts';
import { summary, type Outcome } from './summary.ts';

const RUNS_PER_SECOND = 200;

const seconds = Number(process.argv[2] ?? 60);
if (!(seconds > 0)) throw new Error('usage: fuzz [SECONDS]');

const compiler = 'clang++';
ensureTools(compiler);
const cache = join(root, '.cache/fuzz');

function fuzz({ name, source, sources }: Fuzzer): Outcome {
  const corpus = join(cache, name);
  mkdirSync(corpus, { recursive: true });
  const program = join(cache, `${name}.fuzzer`);
  const sanitizers = ['-fsanitize=fuzzer,address,undefined', '-fno-sanitize-recover=all'];
  const flags = ['-std=c++17', '-g', '-O1', '-fno-exceptions', '-fno-rtti', '-Isrc', '-I.', ...sanitizers];
  execFileSync(compiler, [...flags, '-o', program, source, ...sources], { cwd: root, stdio: 'inherit' });
  const found = join(cache, `${name}-`);
  const options = [`-max_total_time=${seconds}`, '-max_len=4096', `-artifact_prefix=${found}`];
  const run = spawnSync(program, [...options, '-print_final_stats=1', corpus], { encoding: 'utf8' });
  const stat = (key: string) => new RegExp(`stat::${key}:\\s+(\\d+)`).exec(run.stderr)?.[1] ?? '?';
  const problems = run.status === 0 ? [] : [`see ${found}*`, ...run.stderr.trim().split('\n').slice(-40)];
  return { name, problems, details: `${stat('number_of_executed_units')} inputs` };
}

function properties(): Outcome {
  const runs = Math.ceil(seconds * RUNS_PER_SECOND);
  const test = join(root, 'dist/test/properties.test.js');
  const run = spawnSync(process.execPath, [test], {
    encoding: 'utf8',
    env: { ...process.env, FUZZ_RUNS: String(runs), TAP_TIMEOUT: '0' },
  });
  const problems = run.status === 0 ? [] : run.stdout.split('\n').slice(-60);
  return { name: 'properties', problems, details: `${runs} runs each` };
}

summary([...fuzzers().map(fuzz), properties()]);
