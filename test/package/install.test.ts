// The package as npm packs and installs it.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import t from 'tap';
import { root } from '../../scripts/native.ts';

const npm = realpathSync(execFileSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).trim());
const scratch = mkdtempSync(join(tmpdir(), 'original-dst-package-'));
t.teardown(() => rmSync(scratch, { recursive: true }));

/** A PATH of node and sh: no compiler, no make, no Python. */
const bare = join(scratch, 'bin');
mkdirSync(bare);
symlinkSync(process.execPath, join(bare, 'node'));
symlinkSync('/bin/sh', join(bare, 'sh'));

/** What node-gyp takes for g++; it is made below. */
const compiler = join(scratch, 'compiler');

/** The outer npm's and tap's settings are not those of a person who installs the package. */
function environment(path: string): NodeJS.ProcessEnv {
  const prefix = resolve(process.execPath, '../..');
  const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? { npm_config_nodedir: prefix } : {};
  return {
    PATH: path,
    HOME: process.env['HOME'],
    CXX: compiler,
    npm_config_update_notifier: 'false',
    ...headers,
  };
}

function runNpm(cwd: string, path: string, ...args: string[]) {
  return spawnSync(process.execPath, [npm, '--no-audit', '--no-fund', ...args], {
    cwd,
    encoding: 'utf8',
    env: environment(path),
  });
}

interface Packed {
  filename: string;
  files: { path: string }[];
}

function pack(...directories: string[]): Packed[] {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', scratch, ...directories];
  const { stdout, stderr, status } = runNpm(root, process.env['PATH']!, ...args);
  if (status !== 0) throw new Error(`npm pack: ${stderr}`);
  return JSON.parse(stdout) as Packed[];
}

/** What is packed: made of a copy, because other tests run beside this one. The compiler has run before all of them. */
const checkout = join(scratch, 'checkout');
const { files: shipped, scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  files: string[];
  scripts: { prepack: string };
};
for (const name of ['package.json', 'README.md', 'LICENSE', 'dist/scripts/bundle.js', ...shipped]) {
  cpSync(join(root, name), join(checkout, name), { recursive: true });
}
symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
execFileSync('sh', ['-c', scripts.prepack.replace(/^npm run build:ts && /, '')], { cwd: checkout });

/** The package with its dependencies as tarballs: the installation below uses no network and no cache. */
const dependencies = ['commander', 'dns-packet', 'node-addon-api', 'node-gyp-build'];
/** What these ask for themselves. */
const theirs = ['@leichtgewicht/ip-codec'];
const tarballs = pack(checkout, ...[...dependencies, ...theirs].map((name) => `./node_modules/${name}`));
const packed = tarballs.find(({ filename }) => filename.startsWith('original-dst-'))!;

/** Somebody's project that depends on the package. */
const project = join(scratch, 'project');
mkdirSync(project);
const installed = join(project, 'node_modules/original-dst');

const USE = `
  import { createServer } from 'node:net';
  import { getTransparent } from 'original-dst';
  const server = createServer().listen(0, '127.0.0.1', () => {
    console.log(getTransparent(server._handle.fd));
    server.close();
  });
`;

function use(code = USE) {
  return spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    cwd: project,
    encoding: 'utf8',
    env: environment(bare),
  });
}

const packedFiles = packed.files.map(({ path }) => path);
const textOf = (file: string) => readFileSync(join(checkout, file), 'utf8');

/** What a file of dist/lib names of the others: imports, at once or later, and programs that it starts. */
function named(file: string): { atOnce: string[]; all: string[] } {
  const text = textOf(file);
  const found = (pattern: RegExp) =>
    [...text.matchAll(pattern)].map(([, first, second = '']) => join(dirname(file), dirname(second), first!));
  const atOnce = found(/^(?:import|export) (?:[^;]*? from )?'(\.[^']+)'/gm);
  if (file.endsWith('.d.ts')) {
    const all = [...atOnce, ...found(/import\('(\.[^']+)'\)/g)];
    return { atOnce: [], all: all.map((name) => name.replace(/\.ts$/, '.d.ts')) };
  }
  const later = found(/import\('(\.[^']+)'\)/g);
  const programs = found(/new URL\('([^']+\.js)', (?:new URL\('([^']+)', )?import\.meta\.url\)/g);
  // Where a module was before it was bundled is no name of a file.
  const places = new Set(found(/new URL\('([^']+\.js)', import\.meta\.url\)\.href/g));
  return { atOnce, all: [...atOnce, ...later, ...programs.filter((name) => !places.has(name))] };
}

/** The files that these lead to, themselves among them. */
function reached(files: readonly string[], which: 'atOnce' | 'all'): Set<string> {
  const seen = new Set(files);
  for (const file of seen) for (const next of named(file)[which]) seen.add(next);
  return seen;
}

const { exports: entryPoints } = JSON.parse(textOf('package.json')) as {
  exports: Record<string, { types?: string; default?: string }>;
};
const targets = (kind: 'types' | 'default') =>
  Object.values(entryPoints).flatMap(({ [kind]: target }) => (target === undefined ? [] : [join(target)]));

t.test('it contains what it needs and no more', (t) => {
  const wanted = [
    'CHANGELOG.md',
    'LICENSE',
    'README.md',
    'binding.gyp',
    'package.json',
    'prebuilds/linux-arm64/original-dst.napi.node',
    'prebuilds/linux-x64/original-dst.napi.node',
    'prebuilds/manifest.json',
    'scripts/install.js',
    ...readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name))),
    // Neither the sources, which say nothing that these do not, nor the maps that lead to them.
    ...reached([...targets('default'), ...targets('types'), 'dist/lib/cli.js'], 'all'),
  ];
  t.same(packedFiles.toSorted(), wanted.sort());
  const started = readdirSync(join(root, 'lib'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .flatMap((name) =>
      [...readFileSync(join(root, 'lib', name), 'utf8').matchAll(/new URL\('([^']+\.js)'/g)].map(
        ([, program]) => join('dist/lib', dirname(name), program!),
      ),
    );
  t.ok(started.length > 0);
  for (const program of started) t.ok(packedFiles.includes(program), program);
  t.end();
});

t.test('what is always loaded together is in few files', (t) => {
  for (const entry of targets('default')) {
    const files = reached([entry], 'atOnce');
    t.ok(files.size <= 3, `${entry}: ${[...files].join(' ')}`);
  }
  t.end();
});

t.test('CONTRIBUTING.md gives a reason for each dependency', (t) => {
  const read = (name: string) => readFileSync(join(root, name), 'utf8');
  const { dependencies: named } = JSON.parse(read('package.json')) as {
    dependencies: Record<string, string>;
  };
  const [, section] = /^## Dependencies\n(.*?)^## /ms.exec(read('CONTRIBUTING.md'))!;
  const reasons = [...section!.matchAll(/^- \*\*(.+?)\*\*: /gm)].map(([, name]) => name!);
  t.same(reasons.sort(), Object.keys(named).sort());
  t.same(dependencies, Object.keys(named), 'the installs below have them all');
  t.end();
});

t.test('needs no install script', (t) => {
  const files = tarballs.map(({ filename }) => join(scratch, filename));
  t.match(runNpm(project, bare, 'install', '--offline', '--ignore-scripts', ...files), { status: 0 });
  t.match(use(), { status: 0, stdout: 'false\n' });
  t.end();
});

t.test('its install script needs no compiler', (t) => {
  t.match(runNpm(project, bare, 'rebuild'), { status: 0 });
  t.notOk(existsSync(join(installed, 'build')), 'nothing was compiled');
  t.end();
});

t.test('the command and the entry points work', (t) => {
  const npx = (...args: string[]) =>
    spawnSync('npx', ['--no-install', 'original-dst', ...args], {
      cwd: project,
      encoding: 'utf8',
      env: environment(process.env['PATH']!),
    });
  const doctor = npx('doctor', '--json');
  t.equal(doctor.stderr.replaceAll(/^npm warn.*\n/gm, ''), '');
  const parsed = JSON.parse(doctor.stdout) as { findings: { id: string; level: string }[] };
  t.match(
    parsed.findings.find(({ id }) => id === 'binary'),
    { level: 'ok' },
    'with its addon',
  );
  const rules = npx('rules', 'print', '--preset', 'sidecar');
  t.equal(rules.status, 0);
  t.match(rules.stdout, /^nft -f - <<'RULES'\ntable ip original-dst-sidecar\n/);

  const { stdout, stderr } = use(`
    import { diagnose } from 'original-dst/doctor';
    import { planRules } from 'original-dst/rules';
    import { createServer } from 'original-dst';
    console.log(typeof diagnose, typeof planRules, typeof createServer);
  `);
  t.equal(stdout, 'function function function\n', stderr);

  // These start programs of the package, which are found by their paths. What else they find is said where they are tested.
  const { findings: tested } = JSON.parse(npx('doctor', '--self-test', '--json').stdout) as typeof parsed;
  t.ok(
    tested.some(({ id }) => id === 'self-test-redirect-tcp-ipv4'),
    'the self-test has run',
  );
  t.match(npx('demo').stdout, /^✓  plain TCP /m, 'the demo has run');
  t.end();
});

/**
 * Stands in for g++: that the sources compile is seen in prebuilds.test.ts, which takes a minute of one core for it.
 * One source with all headers, Node's and node-addon-api's, is compiled; of the others there is an object if they are in
 * the package; what is linked is the shipped binary.
 */
const COMPILER = `#!/bin/sh
for argument; do
  case $before in
    -o) output=$argument ;;
    -MF) dependencies=$argument ;;
  esac
  case $argument in *.cc) source=$argument ;; esac
  before=$argument
done
case $output in
  *.node) exec cp '${join(scratch, 'shipped.node')}' "$output" ;;
  *dial_glue.o) g++ -fsyntax-only "$@" && : >"$output" ;;
  *.o) test -f "$source" && : >"$dependencies" && : >"$output" ;;
  *) exec g++ "$@" ;;
esac
`;

t.test('is compiled where no shipped binary fits', { timeout: 280_000 }, (t) => {
  renameSync(
    join(installed, `prebuilds/linux-${process.arch}/original-dst.napi.node`),
    join(scratch, 'shipped.node'),
  );
  t.match(use(), { status: 1, stderr: /ERR_BINDING_NOT_LOADED/ });
  t.not(runNpm(project, bare, 'rebuild').status, 0, 'without a compiler npm says so');

  writeFileSync(compiler, COMPILER, { mode: 0o755 });
  const { status, stderr } = runNpm(project, process.env['PATH']!, 'rebuild');
  t.equal(status, 0, stderr);
  t.ok(existsSync(join(installed, 'build/Release/original_dst.node')));
  t.match(use(), { status: 0, stdout: 'false\n' });
  t.end();
});

t.test('elsewhere than on Linux there is nothing to compile', (t) => {
  const elsewhere = `data:text/javascript,Object.defineProperty(process,'platform',{value:'darwin'})`;
  const script = join(root, 'scripts/install.js');
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--import', elsewhere, script], {
    encoding: 'utf8',
    env: environment(bare),
  });
  t.same({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' });
  t.end();
});
