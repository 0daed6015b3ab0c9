// What does a binary ask of the process that loads it?
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './native.ts';

/** The oldest glibc that Node 20's own binaries run on: the addon must not want more. */
const GLIBC_CEILING = '2.28';

const EXPORTS = new Set(['napi_register_module_v1', 'node_api_module_get_api_version_v1']);

interface Symbol {
  name: string;
  /** `GLIBC_2.17`, or undefined for a symbol without one. */
  version: string | undefined;
  defined: boolean;
  weak: boolean;
  value: string;
}

export function readelf(file: string, ...options: string[]): string {
  return execFileSync('readelf', ['-W', ...options, file], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
    maxBuffer: 1 << 28,
  });
}

export function dynamicSymbols(file: string): Symbol[] {
  // Num: Value Size Type Bind Vis Ndx Name[@[@]version[ (n)]]; local ones are of no concern to anybody else.
  const row = /^ *\d+: +([0-9a-f]+) +\S+ +\S+ +(GLOBAL|WEAK|UNIQUE) +\S+ +(\S+) +([^@\s]+)(?:@@?(\S+))?/gm;
  return [...readelf(file, '--dyn-syms').matchAll(row)].map(([, value, bind, section, name, version]) => ({
    name: name!,
    version,
    defined: section !== 'UND',
    weak: bind === 'WEAK',
    value: value!,
  }));
}

/** scripts/abi-symbols.txt: a name a line; a second word `oldest` where glibc's first version will do, `weak` where none. */
function allowed(): Map<string, string | undefined> {
  const text = readFileSync(join(root, 'scripts/abi-symbols.txt'), 'utf8');
  const words = text.split('\n').map((line) => line.replace(/#.*/, '').trim().split(/\s+/));
  return new Map(words.map(([name, mark]) => [name!, mark]));
}

function newer(a: string, b: string): boolean {
  return a.localeCompare(b, 'en', { numeric: true }) > 0;
}

export interface AbiReport {
  /** The oldest glibc that has every symbol, as far as `libc` is known. */
  glibc: string;
  problems: string[];
}

/**
 * Compares a binary's dynamic symbols with the list of those that may be there.
 *
 * @param libc the libc.so.6 of the binary's architecture; without it only names are compared
 */
export function checkAbi(file: string, libc?: string): AbiReport {
  const problems: string[] = [];
  for (const [, library] of readelf(file, '--dynamic').matchAll(/\(NEEDED\).*\[(.*)\]/g)) {
    problems.push(`needs the library ${library}: it would load with one libc only`);
  }

  const libcSymbols = libc === undefined ? [] : dynamicSymbols(libc).filter((symbol) => symbol.defined);
  const names = allowed();
  let glibc = '2.0';
  for (const { name, version, defined, weak } of dynamicSymbols(file)) {
    if (defined) {
      if (!EXPORTS.has(name)) problems.push(`exports ${name}`);
      continue;
    }
    if (version !== undefined) problems.push(`wants ${name} in the version ${version}`);
    if (!names.has(name)) {
      problems.push(`wants ${name}, which is not in scripts/abi-symbols.txt`);
    }
    if (names.get(name) === 'weak' && !weak) {
      problems.push(`wants ${name}, and would not load where it is missing`);
    }
    const versions = libcSymbols.filter((symbol) => symbol.name === name);
    // Without a version the loader takes glibc's oldest; from one implementation under several names any will do.
    if (new Set(versions.map(({ value }) => value)).size > 1 && names.get(name) !== 'oldest') {
      problems.push(`wants ${name}, of which glibc has several and the oldest is taken`);
    }
    const [since] = versions
      .map((symbol) => symbol.version!.replace('GLIBC_', ''))
      .sort((a, b) => (newer(a, b) ? 1 : -1));
    if (since !== undefined && newer(since, glibc)) glibc = since;
  }
  if (newer(glibc, GLIBC_CEILING)) problems.push(`wants glibc ${glibc}; the ceiling is ${GLIBC_CEILING}`);
  return { glibc, problems };
}
