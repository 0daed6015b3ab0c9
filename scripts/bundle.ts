// Makes of dist/lib, as the compiler writes it, what is packed. For each module, however small, Node's loader takes about
// two thirds of a millisecond of CPU time: those that are always loaded together become one file.
//
// What belongs together is in one file once, whichever entry point asks for it: each has to know the others' sockets.
// Nothing is left out, renamed or made shorter: what was tested is what is shipped, and stack traces can be read.
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type GetModuleInfo, type Plugin, rollup, type RollupLog } from 'rollup';

const root = fileURLToPath(new URL('../..', import.meta.url));
const lib = join(root, 'dist/lib');

const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  exports: Record<string, string | { types: string; default: string }>;
};
const targets = (kind: 'types' | 'default') =>
  Object.values(exports).flatMap((target) =>
    typeof target === 'string' ? [] : [relative(lib, join(root, target[kind]))],
  );

const MAIN = 'index.js';
const COMMAND = 'cli.js';
const entries = [...targets('default'), COMMAND];

/** Programs that are started by their path: `new URL('program.js', import.meta.url)`. */
const PROGRAM = /new URL\('([^']+\.js)', import\.meta\.url\)/g;

/** Modules are found, and find files, where they were. */
const places: Plugin = {
  name: 'places',
  moduleParsed({ id, code }) {
    for (const [, program] of code!.matchAll(PROGRAM)) {
      const file = resolve(dirname(id), program!);
      this.emitFile({ type: 'chunk', id: file, fileName: relative(lib, file) });
    }
  },
  resolveImportMeta(property, { chunkId, moduleId }) {
    const path = relative(lib, moduleId);
    if (path === chunkId) return null;
    if (property !== 'url') this.error(`${path}: import.meta.${property} would be another one`);
    return `new URL('${relative(dirname(chunkId), path)}', import.meta.url).href`;
  },
};

/** By which entry points each module is loaded at once. */
function findUsers(get: GetModuleInfo): Map<string, Set<string>> {
  const users = new Map<string, Set<string>>();
  const walk = (id: string, entry: string): void => {
    const known = users.get(id) ?? new Set();
    if (known.has(entry)) return;
    users.set(id, known.add(entry));
    for (const next of get(id)!.importedIds) if (next.startsWith(lib)) walk(next, entry);
  };
  for (const entry of entries) walk(join(lib, entry), entry);
  return users;
}

/** These load all that `original-dst` does, and more. */
const WITH_MAIN = new Set([MAIN, 'capture/index.js', 'ebpf/index.js']);

/** Fewer and larger files than rollup's, which are as many as there are sets of entry points with something in common. */
function chunkOf(users: ReadonlySet<string>): string | null {
  if (users.size === 1) return users.has(MAIN) ? 'main' : users.has(COMMAND) ? 'command' : null;
  return users.has(MAIN) && [...users].every((entry) => WITH_MAIN.has(entry)) ? 'main' : 'common';
}

function refuse({ code, message }: RollupLog): void {
  // The compiler's helper for computed imports asks for it, and does without.
  if (code !== 'THIS_IS_UNDEFINED') throw new Error(message);
}

async function bundleModules(directory: string): Promise<void> {
  const bundle = await rollup({
    input: Object.fromEntries(entries.map((entry) => [entry.replace(/\.js$/, ''), join(lib, entry)])),
    external: (id) => !/^[./]/.test(id),
    treeshake: false,
    plugins: [places],
    onLog: (_level, log) => refuse(log),
  });
  let users: Map<string, Set<string>> | undefined;
  await bundle.write({
    dir: directory,
    entryFileNames: '[name].js',
    chunkFileNames: 'chunks/[name].js',
    hoistTransitiveImports: false,
    minifyInternalExports: false,
    onlyExplicitManualChunks: true,
    manualChunks(id, { getModuleInfo }) {
      users ??= findUsers(getModuleInfo);
      const by = users.get(id);
      return by === undefined || entries.includes(relative(lib, id)) ? null : chunkOf(by);
    },
  });
  await bundle.close();
}

/** What a file of declarations says that it needs of others. */
const DECLARED = /(?:from |import\()'(\.[^']+)\.ts'/g;

/** Declarations that those of the entry points do not lead to are for nobody. */
function copyDeclarations(directory: string): void {
  const files = new Set(targets('types'));
  for (const file of files) {
    cpSync(join(lib, file), join(directory, file));
    for (const [, next] of readFileSync(join(lib, file), 'utf8').matchAll(DECLARED)) {
      files.add(join(dirname(file), `${next!}.d.ts`));
    }
  }
}

const scratch = mkdtempSync(join(tmpdir(), 'original-dst-bundle-'));
try {
  await bundleModules(scratch);
  copyDeclarations(scratch);
  // The compiler is to know that its files are no longer there.
  rmSync(join(root, 'dist/.tsbuildinfo'), { force: true });
  rmSync(lib, { recursive: true });
  cpSync(scratch, lib, { recursive: true });
} finally {
  rmSync(scratch, { recursive: true });
}
