// Loading the addon, and what is said where that fails.
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { mockImport } from './fixtures/mock.ts';
import { binding } from '../lib/binding.ts';

type BindingModule = typeof import('../lib/binding.ts');

// By URL: a relative path would be looked up from the source file, by way of its source map.
const BINDING = new URL('../lib/binding.js', import.meta.url).href;

t.test('loads once', async (t) => {
  t.equal(binding(), binding());
});

t.test('on another system importing works and calling says so', async (t) => {
  t.intercept(process, 'platform', { value: 'darwin' });
  const fresh = await mockImport<BindingModule>(BINDING);
  t.throws(() => fresh.binding(), {
    code: 'ERR_UNSUPPORTED_PLATFORM',
    message: /works on Linux only, this is darwin/,
    hint: /process\.platform/,
  });
});

t.test('a binary that does not load is an error with a remedy and the cause', async (t) => {
  const cause = new Error('No native build was found');
  const fresh = await mockImport<BindingModule>(BINDING, {
    'node:module': {
      createRequire: () => () => () => {
        throw cause;
      },
    },
  });
  t.throws(() => fresh.binding(), {
    code: 'ERR_BINDING_NOT_LOADED',
    message: new RegExp(`no native binary for linux-${process.arch}`),
    hint: /node-gyp rebuild/,
    cause,
  });
});

t.test('addons that are switched off: not the binary’s fault', async (t) => {
  const script = `
    const { getTransparent } = await import(process.argv[1]);
    try { getTransparent(0); } catch ({ code, hint, cause }) { console.log([code, cause.code, hint].join()); }`;
  const index = new URL('../lib/index.js', import.meta.url).href;
  const permission = process.allowedNodeEnvironmentFlags.has('--permission')
    ? '--permission'
    : '--experimental-permission';
  // Without tap's variables: its loaders are not among what is permitted.
  for (const flags of [['--no-addons'], [permission, '--allow-fs-read=*']]) {
    const args = [
      '-u',
      'NODE_OPTIONS',
      process.execPath,
      ...flags,
      '--input-type=module',
      '-e',
      script,
      index,
    ];
    const printed = execFileSync('env', args, { encoding: 'utf8', stdio: 'pipe' });
    t.match(
      printed,
      /^ERR_BINDING_NOT_LOADED,ERR_DLOPEN_DISABLED,.*--no-addons.*--allow-addons/,
      flags.join(),
    );
  }

  const cause = Object.assign(new Error('disabled'), { code: 'ERR_DLOPEN_DISABLED' });
  const fresh = await mockImport<BindingModule>(BINDING, {
    'node:module': {
      createRequire: () => () => () => {
        throw cause;
      },
    },
  });
  t.throws(() => fresh.binding(), { message: /native addons are switched off/, cause });
});

t.test('the binary itself takes no stray argument for fd 0', async (t) => {
  const raw = binding() as unknown as Record<string, (...args: unknown[]) => unknown>;
  const EBADF = -9;
  for (const bad of [undefined, null, '0', NaN, 0.5, 2 ** 32, -(2 ** 32), Infinity, {}, [], 0n, true]) {
    for (const name of ['getOriginalDst', 'readFacts', 'getTransparent', 'socketKind']) {
      t.equal(raw[name]!(bad), EBADF, `${name}(${String(bad)})`);
    }
    for (const name of ['setTransparent', 'setFreebind', 'setBindAddressNoPort']) {
      t.equal(raw[name]!(bad, true), EBADF, `${name}(${String(bad)})`);
    }
    t.equal(raw['setMark']!(bad, 1), EBADF);
  }
  const EINVAL = -22;
  for (const role of [undefined, 'x', -1, 5, 0.5, NaN]) {
    t.equal(raw['addressText']!(role), undefined);
    t.equal(raw['isInterfaceAddress']!(role), EINVAL);
    t.equal(raw['conntrackLookup']!(6, 0, 2, 3, role), EINVAL);
  }
  for (const name of ['getOriginalDst', 'readFacts', 'setTransparent', 'setMark']) {
    t.equal(raw[name]!(), EBADF, `${name}()`);
  }
});
