// The house: what may include or import what, where tests lie, how long a file is, what its first line says, and
// whether CONTRIBUTING.md's picture of it is true.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const SOURCES = ['lib', 'src', 'test', 'examples', 'bench', 'scripts'];

const entries = SOURCES.flatMap((top) =>
  readdirSync(join(root, top), { recursive: true, withFileTypes: true }).map((entry) => ({
    path: relative(root, join(entry.parentPath, entry.name)),
    directory: entry.isDirectory(),
  })),
);
const folders = [...SOURCES, ...entries.filter((entry) => entry.directory).map((entry) => entry.path)];
const files = entries
  .filter((entry) => !entry.directory)
  .map((entry) => ({ path: entry.path, text: readFileSync(join(root, entry.path), 'utf8') }));
const code = files.filter(({ path }) => /\.(ts|js|cc|h|c|sh|py)$/.test(path));

/** Each line may import from the lines below it and from its own; the order of lib/ in CONTRIBUTING.md. */
const LIB_ORDER = [
  ['cli.ts', 'cli', 'demo'],
  ['index.ts'],
  ['diagnostics.ts'],
  ['metrics'],
  ['capture'],
  ['doctor'],
  ['ebpf'],
  ['rules'],
  ['dns'],
  ['relay', 'accept', 'udp'],
  ['dial'],
  ['names', 'policy'],
  ['raw-fd.ts'],
  ['recover'],
  ['namespace'],
  ['node'],
  [
    'addon.ts',
    'addon-relay.ts',
    'binding.ts',
    'address.ts',
    'arguments.ts',
    'errors.ts',
    'host-files.ts',
    'host-name.ts',
    'programs.ts',
  ],
];

/** The same for src/; the glue knows all, the system calls know nobody above them. */
const SRC_ORDER = [
  ['glue'],
  ['relay', 'datagram'],
  ['ebpf', 'names'],
  ['conntrack', 'host', 'namespace', 'socket'],
  ['runtime.cc', 'exports.map'],
];

function rank(order: string[][], name: string): number {
  return order.findIndex((names) => names.includes(name));
}

/** The references among the files below `top` that go up, or to or from something that `order` does not know. */
function upward(
  top: string,
  order: string[][],
  reference: RegExp,
  target: (from: string, to: string) => string,
) {
  const found: string[] = [];
  for (const { path, text } of files.filter((file) => file.path.startsWith(`${top}/`))) {
    const from = path.split('/')[1]!;
    if (rank(order, from) < 0) found.push(`${path}: not in the order`);
    for (const [, specifier] of text.matchAll(reference)) {
      const to = relative(top, target(path, specifier!)).split('/')[0]!;
      if (rank(order, to) < rank(order, from)) found.push(`${path} -> ${specifier}`);
    }
  }
  return found;
}

t.test('imports in lib/ only go down', (t) => {
  const imports = /(?:from|import) ?\(?'(\.[^']+)'/g;
  t.same(
    upward('lib', LIB_ORDER, imports, (from, to) => join(dirname(from), to)),
    [],
  );
  t.end();
});

t.test('includes in src/ only go down, and napi.h is the glue’s alone', (t) => {
  t.same(
    upward('src', SRC_ORDER, /^#include "([^"]+)"/gm, (_, to) => join('src', to)),
    [],
  );
  const napi = files.filter(
    ({ path, text }) => path.startsWith('src/') && /#include [<"](napi|node_api)/.test(text),
  );
  t.same(
    napi.map(({ path }) => path).filter((path) => !path.startsWith('src/glue/')),
    [],
  );
  t.ok(napi.length > 0);
  t.end();
});

t.test('the glue makes no system calls', (t) => {
  // Headers of constants and of functions that ask the kernel nothing; of the first, calls too.
  const headers = new Set([
    'napi.h',
    'sys/socket.h',
    'linux/netlink.h',
    'errno.h',
    'string.h',
    'stdint.h',
    'stddef.h',
  ]);
  const call =
    /(?<![\w.>:]|(?:int|void|bool|Value) )(?:::)?(accept4?|bind|connect|get(?:peer|sock)name|[gs]etsockopt|listen|recv\w*|send\w*|shutdown|socket(?:pair)?)\(/g;
  const found = files
    .filter(({ path }) => path.startsWith('src/glue/'))
    .flatMap(({ path, text }) => [
      ...[...text.matchAll(/^#include <([\w/]+\.h)>/gm)]
        .filter(([, header]) => !headers.has(header!))
        .map(([line]) => `${path}: ${line}`),
      ...[...text.replace(/\/\/.*/g, '').matchAll(call)].map(([, name]) => `${path}: ${name}()`),
    ]);
  t.same(found, []);
  t.end();
});

t.test('tests lie where their subject lies', (t) => {
  // What has no folder of lib/: several parts at once behind real rules, the package as such, the examples, C++.
  const apart = new Set(['pod', 'package', 'examples', 'fixtures', 'fuzz', 'native']);
  const subjects = readdirSync(join(root, 'lib'));
  // Several files of lib/ at once, or the whole of it in a process, a worker and other runtimes.
  const whole = ['exit', 'worker', 'properties', 'scenarios', 'random'];
  const misplaced = readdirSync(join(root, 'test'), { withFileTypes: true }).filter((entry) =>
    entry.isDirectory()
      ? !apart.has(entry.name) && !subjects.includes(entry.name)
      : ![...whole.map((name) => `${name}.ts`), ...subjects].includes(entry.name.replace('.test.ts', '.ts')),
  );
  t.same(
    misplaced.map((entry) => entry.name),
    [],
  );
  // A test that uses parts of lib/, and none by way of the library's names, uses its own, or runs it (fixtures/cli.ts).
  const strayed = files.filter(({ path, text }) => {
    const [, folder] = /^test\/(\w+)\/.*\.test\.ts$/.exec(path) ?? [];
    if (folder === undefined || apart.has(folder)) return false;
    const used = [...text.matchAll(/from '(?:\.\.\/)+(lib|fixtures)\/([\w-]+)[./]/g)];
    const parts = used.filter(([, top]) => top === 'lib').map(([, , part]) => part!);
    return parts.length > 0 && !parts.includes('index') && !used.some(([, , part]) => part === folder);
  });
  t.same(
    strayed.map(({ path }) => path),
    [],
  );
  const elsewhere = files.filter(
    ({ path }) =>
      path.endsWith('.test.ts') && (!path.startsWith('test/') || path.startsWith('test/fixtures/')),
  );
  t.same(
    elsewhere.map(({ path }) => path),
    [],
  );
  t.end();
});

t.test('no file is longer than 350 lines', (t) => {
  const long = code.filter(({ text }) => text.trimEnd().split('\n').length > 350);
  t.same(
    long.map(({ path }) => path),
    [],
  );
  t.end();
});

t.test('each file says on its first line what it is for', (t) => {
  const silent = code.filter(
    ({ path, text }) =>
      // What a .cc file is for stands in its header.
      !(path.endsWith('.cc') && files.some((file) => file.path === path.replace(/cc$/, 'h'))) &&
      !/^(#!.*\n)?(\/\/|#|"""|\/\*\*?\n \*) ?(?!include|ifndef|oxlint|pragma)\S/.test(text),
  );
  t.same(
    silent.map(({ path }) => path),
    [],
  );
  t.end();
});

t.test('CONTRIBUTING.md names every folder, and none that does not exist', (t) => {
  const contributing = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8');
  const picture = /## Layout\n.*?```text\n(.*?)```/s.exec(contributing)![1]!;
  const named = [
    ...picture.matchAll(/(?:^|\s)((?:lib|src|test|examples|bench|scripts)\/[a-z\d/-]*)(?=\s)/gm),
  ].map(([, name]) => name!.replace(/\/$/, ''));
  t.same(named.sort(), folders.sort());
  t.end();
});
