// What npm publishes, installed elsewhere: the command must work from the tarball.
import { cpSync, existsSync, mkdirSync } from 'node:fs';
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
// tap's loaders are for this process; the installed package knows nothing of them.
const { NODE_OPTIONS: _, ...env } = process.env;

function npm(cwd: string, ...args: string[]): string {
  return execFileSync('npm', args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

t.test('the packed tarball', async (t) => {
  const directory = t.testdir({ project: { 'package.json': '{ "private": true }' } });
  const project = join(directory, 'project');
  const [packed] = JSON.parse(
    npm(ROOT, 'pack', '--json', '--ignore-scripts', '--pack-destination', directory),
  ) as { filename: string; files: { path: string }[] }[];
  const files = new Set(packed!.files.map(({ path }) => path));
  for (const file of ['dist/lib/cli.js', 'dist/lib/doctor/self-test-inside.js', 'dist/lib/demo/inside.js']) {
    t.ok(files.has(file), file);
  }
  t.notOk([...files].some((path) => path.startsWith('dist/test') || path.startsWith('node_modules')));

  // Nothing is fetched: the dependencies come from this repository, and the compiled addon too where no prebuilt one
  // is in the package, since compiling takes a minute.
  const dependencies = [
    '@leichtgewicht/ip-codec',
    'commander',
    'dns-packet',
    'node-addon-api',
    'node-gyp-build',
  ].map((name) => join(ROOT, 'node_modules', name));
  const tarball = join(directory, packed!.filename);
  npm(
    project,
    'install',
    '--offline',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    tarball,
    ...dependencies,
  );
  const installed = join(project, 'node_modules/original-dst');
  if (!existsSync(join(installed, 'prebuilds'))) {
    mkdirSync(join(installed, 'build'));
    cpSync(join(ROOT, 'build/Release/original_dst.node'), join(installed, 'build/Release/original_dst.node'));
  }

  const npx = (...args: string[]) =>
    spawnSync('npx', ['--no-install', 'original-dst', ...args], { cwd: project, env, encoding: 'utf8' });
  const doctor = npx('doctor', '--json');
  t.equal(doctor.stderr.replaceAll(/^npm warn.*\n/gm, ''), '');
  const { findings } = JSON.parse(doctor.stdout) as { findings: { id: string; level: string }[] };
  t.match(
    findings.find(({ id }) => id === 'binary'),
    { level: 'ok' },
    'with its addon',
  );
  const rules = npx('rules', 'print', '--preset', 'sidecar');
  t.equal(rules.status, 0);
  t.match(rules.stdout, /^nft -f - <<'RULES'\ntable ip original-dst-sidecar\n/);

  const imports = `
    import { diagnose } from 'original-dst/doctor';
    import { planRules } from 'original-dst/rules';
    import { createServer } from 'original-dst';
    console.log(typeof diagnose, typeof planRules, typeof createServer);
  `;
  const imported = spawnSync(process.execPath, ['--input-type=module', '-e', imports], {
    cwd: project,
    env,
    encoding: 'utf8',
  });
  t.equal(imported.stdout, 'function function function\n', imported.stderr);
});
