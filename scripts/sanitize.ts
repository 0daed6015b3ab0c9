// The addon under AddressSanitizer and UndefinedBehaviorSanitizer (the whole suite), and under valgrind.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, readdirSync, realpathSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { buildNative, ensureTools, root } from './native.ts';
import { summary, type Outcome } from './summary.ts';

/** These are about binaries of their own, or run what they have installed with another Node. */
const APART = /^package\//;

ensureTools('g++', 'patchelf', 'valgrind', 'nft', 'ip', 'unshare');

/**
 * A Node that ends by process.exit() leaks; test/exit.test.ts turns the check on where it means something. The rest
 * takes a third off the cost of V8's own many allocations: fewer frames kept of each, less held back from reuse.
 */
const ASAN_OPTIONS = 'detect_leaks=0:malloc_context_size=5:quarantine_size_mb=32';

/** The last lines of a run that failed. */
function tail(text: string): string[] {
  return text.trim().split('\n').slice(-60);
}

/**
 * A copy of Node that loads libasan before all else. LD_PRELOAD would reach curl, nft and whatever else the tests
 * start, and some of those hang under it.
 */
function nodeWithAsan(directory: string): string {
  const libasan = execFileSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
  const node = join(directory, 'bin/node');
  mkdirSync(dirname(node), { recursive: true });
  copyFileSync(process.execPath, node);
  execFileSync('patchelf', ['--add-needed', realpathSync(libasan), node]);
  return node;
}

async function suite(): Promise<Outcome> {
  const directory = join(root, '.cache/native/sanitize');
  buildNative(directory, { variables: { sanitize: 'address,undefined' } });
  const tests = (readdirSync(join(root, 'dist/test'), { recursive: true }) as string[]).filter(
    (name) => name.endsWith('.test.js') && !APART.test(name),
  );
  const tap = realpathSync(join(root, 'node_modules/.bin/tap'));
  execFileSync(process.execPath, [tap, 'build'], { cwd: root }); // as `npm test` does
  const options = ['--disable-coverage', '--reporter=tap', '--timeout=600'];
  const run = spawn(nodeWithAsan(directory), [tap, ...options, ...tests.map((name) => `dist/test/${name}`)], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      ORIGINAL_DST_PREBUILD: directory,
      ASAN_OPTIONS,
    },
  });
  const closed = once(run, 'close') as Promise<[number | null]>;
  const lines: string[] = [];
  for await (const line of createInterface(run.stdout)) {
    lines.push(line);
    // The whole takes long: a sign of life for each file.
    if (/^(not )?ok /.test(line)) console.log(line);
  }
  const [status] = await closed;
  const output = lines.join('\n');
  const problems = [
    ...new Set(lines.filter((line) => /^ *not ok |AddressSanitizer|runtime error/.test(line))),
  ];
  if (status !== 0) {
    const log = join(directory, 'tap.log');
    writeFileSync(log, output);
    problems.push(`see ${log}`);
  }
  const details = /^# \{ (total.*) \}$/m.exec(output)?.[1] ?? '';
  return { name: 'ASan + UBSan, whole suite', problems, details };
}

/** Valgrind on a process at its busiest. V8 has complaints of its own: only those with the addon in them count. */
function valgrind(): Outcome {
  const directory = join(root, '.cache/native/valgrind');
  buildNative(directory, {});
  const program = join(root, 'dist/test/fixtures/programs/busy-process.js');
  const options = ['--leak-check=full', '--show-leak-kinds=definite,possible', '--num-callers=40'];
  const run = spawnSync('valgrind', [...options, process.execPath, program, 'talking', 'by itself'], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, ORIGINAL_DST_PREBUILD: directory },
  });
  const reports = run.stderr.split(/^==\d+== *\n/m);
  const problems = reports.filter((report) => report.includes('original_dst.node'));
  if (run.status !== 0) problems.push(...tail(run.stderr));
  const details = /ERROR SUMMARY: .*/.exec(run.stderr)?.[0] ?? '';
  return { name: 'valgrind', problems, details };
}

function script(name: string, path: string): Outcome[] {
  if (!existsSync(join(root, path))) return [];
  const run = spawnSync(join(root, path), { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  return [{ name, problems: run.status === 0 ? [] : tail(run.stdout + run.stderr) }];
}

summary([await suite(), valgrind(), ...script('relay engine alone', 'scripts/sanitize-relay.sh')]);
