// `npm run build:bpf`: compiles the BPF programs of src/ebpf/programs/ into the header that the addon is built with.
//
// A header that is committed and no build step of the addon: whoever installs the package has no clang, and what the
// kernel verifies should be the very instructions that the tests have seen.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BpfObject, readBpfObject } from './bpf-image.ts';
import { bpfHash, bpfHeader, bpfObjects, bpfSources } from './bpf-sources.ts';
import { ensureTools, root } from './native.ts';

const PER_LINE = 8;

function compile(source: string): BpfObject {
  const directory = mkdtempSync(join(tmpdir(), 'original-dst-bpf-'));
  try {
    const object = join(directory, 'programs.o');
    // Not v3, whose registers of 32 bits would be saved in half a word of the stack: see programs/bpf.h. Clang makes
    // the atomic operations that answer with what was there before (Linux 5.12) for v2 too.
    const flags = ['-O2', '-Wall', '-Werror', '-target', 'bpf', '-mcpu=v2'];
    const headers = execFileSync('gcc', ['-print-multiarch'], { encoding: 'utf8' }).trim();
    execFileSync(
      'clang',
      [...flags, `-I${join(root, 'src')}`, `-I/usr/include/${headers}`, '-c', source, '-o', object],
      {
        stdio: 'inherit',
      },
    );
    return readBpfObject(readFileSync(object));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function rows(values: readonly string[]): string {
  return Array.from({ length: Math.ceil(values.length / PER_LINE) }, (_, row) =>
    values.slice(row * PER_LINE, (row + 1) * PER_LINE).join(', '),
  ).join(',\n    ');
}

/** The C++ of one object: its maps and programs, by number and as tables. */
function format(prefix: string, { maps, programs }: BpfObject): string {
  const named = (kind: string, names: readonly string[]): string =>
    `enum ${prefix}${kind} { ${names.map((name) => `k${prefix}${kind}_${name}`).join(', ')} };`;
  const images = programs.map(({ name, instructions, references }) => {
    const code = instructions.map((instruction) => `0x${instruction.toString(16)}`);
    const uses = references.map(({ instruction, map }) => `{${instruction}, ${map}}`);
    return (
      `constexpr uint64_t k${prefix}Code_${name}[] = {\n    ${rows(code)}};\n` +
      `constexpr BpfMapReference k${prefix}Maps_${name}[] = {\n    ${rows(uses)}};`
    );
  });
  const table = programs.map(
    ({ name, instructions, references }) =>
      `{"${name}", k${prefix}Code_${name}, ${instructions.length}, k${prefix}Maps_${name}, ${references.length}}`,
  );
  return [
    named(
      'Map',
      maps.map(({ name }) => name),
    ),
    `constexpr BpfMapImage k${prefix}Maps[] = {\n    ${maps.map(({ name, words }) => `{"${name}", ${words.join(', ')}}`).join(',\n    ')}};`,
    ...images,
    named(
      'Program',
      programs.map(({ name }) => name),
    ),
    `constexpr BpfProgramImage k${prefix}Programs[] = {\n    ${table.join(',\n    ')}};`,
  ].join('\n');
}

ensureTools('clang');
const hash = bpfHash();
const parts = Object.entries(bpfObjects).map(([prefix, source]) => format(prefix, compile(source)));
writeFileSync(
  bpfHeader,
  `// The BPF programs, made by \`npm run build:bpf\` of sources with this SHA-256:
// ${hash}
// clang-format off
#ifndef ORIGINAL_DST_EBPF_PROGRAMS_H_
#define ORIGINAL_DST_EBPF_PROGRAMS_H_

#include "ebpf/image.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The BPF programs are compiled for little-endian machines: run npm run build:bpf with -target bpfeb, and scripts/bpf-image.ts taught to read it."
#endif

namespace original_dst {

constexpr uint64_t kBpfVersion = 0x${hash.slice(0, 16)};
${parts.join('\n\n')}

}  // namespace original_dst

#endif  // ORIGINAL_DST_EBPF_PROGRAMS_H_
`,
);
console.log(`${bpfHeader}: made of ${bpfSources().length} files`);
