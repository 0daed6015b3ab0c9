// Does a binary load where the libc is musl?
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './native.ts';

/**
 * Loads the binary (of this machine's architecture) into a small program that is linked with musl and has an empty
 * function for each of Node-API's: the loader refuses it if musl lacks one symbol of the rest.
 *
 * @returns what the loader says, or undefined when it loads
 */
export function muslRefusal(file: string): string | undefined {
  const list = readFileSync(join(root, 'scripts/abi-symbols.txt'), 'utf8');
  const stubs = [...list.matchAll(/^napi_\w+/gm)].map(([name]) => `void ${name}(void) {}`);
  const directory = mkdtempSync(join(tmpdir(), 'original-dst-musl-'));
  try {
    const source = join(directory, 'load.c');
    const program = join(directory, 'load');
    writeFileSync(
      source,
      `#include <dlfcn.h>\n#include <stdio.h>\n${stubs.join('\n')}\n` +
        'int main(int argc, char** argv) {\n' +
        '  if (dlopen(argv[argc - 1], RTLD_NOW)) return 0;\n' +
        '  puts(dlerror());\n  return 1;\n}\n',
    );
    execFileSync('musl-gcc', ['-rdynamic', '-o', program, source], { stdio: 'inherit' });
    const run = spawnSync(program, [file], { encoding: 'utf8' });
    return run.status === 0 ? undefined : run.stdout + run.stderr;
  } finally {
    rmSync(directory, { recursive: true });
  }
}
