// The package as npm packs and installs it.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
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

/** The outer npm's and tap's settings are not those of a person who installs the package. */
function environment(path: string): NodeJS.ProcessEnv {
  const prefix = resolve(process.execPath, '../..');
  const headers = existsSync(join(prefix, 'include/node/node_api.h')) ? { npm_config_nodedir: prefix } : {};
  return { PATH: path, HOME: process.env['HOME'], npm_config_update_notifier: 'false', ...headers };
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

function pack(directory: string): Packed {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', scratch, directory];
  const { stdout, stderr, status } = runNpm(root, process.env['PATH']!, ...args);
  if (status !== 0) throw new Error(`npm pack ${directory}: ${stderr}`);
  return (JSON.parse(stdout) as [Packed])[0];
}

/** The package with its dependencies as tarballs: the installs below use no network and no cache. */
const dependencies = ['commander', 'dns-packet', 'node-addon-api', 'node-gyp-build'];
/** What these ask for themselves. */
const theirs = ['@leichtgewicht/ip-codec'];
const packed = pack('.');
const tarballs = [packed, ...[...dependencies, ...theirs].map((name) => pack(`./node_modules/${name}`))].map(
  ({ filename }) => join(scratch, filename),
);

function install(name: string, ...options: string[]): string {
  const directory = join(scratch, name);
  mkdirSync(directory);
  const { status, stderr } = runNpm(directory, bare, 'install', '--offline', ...options, ...tarballs);
  if (status !== 0) throw new Error(`npm install: ${stderr}`);
  return directory;
}

const USE = `
  import { createServer } from 'node:net';
  import { getTransparent } from 'original-dst';
  const server = createServer().listen(0, '127.0.0.1', () => {
    console.log(getTransparent(server._handle.fd));
    server.close();
  });
`;

function use(directory: string) {
  return spawnSync(process.execPath, ['--input-type=module', '-e', USE], {
    cwd: directory,
    encoding: 'utf8',
    env: environment(bare),
  });
}

t.test('it contains what it needs and no more', (t) => {
  const list = (folder: string) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name)));
  const lib = list('lib').filter((name) => name.endsWith('.ts'));
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
    ...list('src'),
    // Neither the sources, which say nothing that these do not, nor the maps that lead to them.
    ...lib.flatMap((name) => ['.js', '.d.ts'].map((end) => `dist/${name.replace(/\.ts$/, end)}`)),
  ];
  t.same(packed.files.map(({ path }) => path).sort(), wanted.sort());
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

t.test('installs where there is no compiler', (t) => {
  const directory = install('plain');
  t.match(use(directory), { status: 0, stdout: 'false\n' });
  t.notOk(existsSync(join(directory, 'node_modules/original-dst/build')), 'nothing was compiled');
  t.end();
});

t.test('needs no install script', (t) => {
  t.match(use(install('scriptless', '--ignore-scripts')), { status: 0, stdout: 'false\n' });
  t.end();
});

t.test('is compiled where no shipped binary fits', { timeout: 280_000 }, (t) => {
  const directory = install('unusual');
  rmSync(join(directory, 'node_modules/original-dst/prebuilds'), { recursive: true });
  t.match(use(directory), { status: 1, stderr: /ERR_BINDING_NOT_LOADED/ });
  t.not(runNpm(directory, bare, 'rebuild').status, 0, 'without a compiler npm says so');

  t.match(runNpm(directory, process.env['PATH']!, 'rebuild'), { status: 0 });
  t.ok(existsSync(join(directory, 'node_modules/original-dst/build/Release/original_dst.node')));
  t.match(use(directory), { status: 0, stdout: 'false\n' });
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
