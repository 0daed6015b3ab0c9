// The BPF programs that are committed are those of the sources; no compiler is needed to see that. And the oldest kernel
// they are for lets programs without CAP_PERFMON write to their stack as they do; nor is that kernel needed.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { bpfHash, bpfHeader } from '../../scripts/bpf-sources.ts';
import { partialStackWrites } from '../fixtures/bpf-stack.ts';

const header = readFileSync(bpfHeader, 'utf8');

t.test('src/ebpf/programs.h is made of the programs’ sources as they are', (t) => {
  const [, hash] = /SHA-256:\n\/\/ ([\da-f]{64})\n/.exec(header) ?? [];
  t.equal(hash, bpfHash(), 'run `npm run build:bpf`');
  t.end();
});

t.test('no program writes to a part of what the verifier of Linux 6.1 keeps whole', (t) => {
  const programs = [...header.matchAll(/^constexpr uint64_t k\w+Code_(\w+)\[\] = \{([^}]*)\};/gm)];
  t.same(
    programs.map(([, name]) => name),
    ['to4', 'to6', 'from4', 'from6', 'witness', 'tag', 'filter', 'lookup'],
  );
  for (const [, name, words] of programs)
    t.same(partialStackWrites(words!.split(',').map((word) => BigInt(word.trim()))), [], name!);
  t.end();
});

/** An instruction: operation, registers, offset, immediate. */
function op(code: number, target = 0, source = 0, offset = 0, immediate = 0): bigint {
  const [at, value] = [BigInt.asUintN(16, BigInt(offset)), BigInt.asUintN(32, BigInt(immediate))];
  return BigInt(code | (target << 8) | (source << 12)) | (at << 16n) | (value << 32n);
}
const constant = (register: number, value: number) => op(0xb7, register, 0, 0, value);
const [store8, store4] = [0x7b, 0x63].map(
  (code) => (offset: number, register: number) => op(code, 10, register, offset),
) as [typeof constant, typeof constant];
const load4 = (register: number) => op(0x61, register, 1, 4);
const exit = op(0x95);

t.test('what Linux 6.1 refuses, and what it lets pass', (t) => {
  const cases: [what: string, program: bigint[], refused: string[]][] = [
    ['a word and its second half', [constant(1, 7), store8(-8, 1), store4(-4, 1)], ['2: 4 bytes at -4']],
    ['two halves, the first known', [constant(1, 7), store4(-8, 1), store4(-4, 1)], ['2: 4 bytes at -4']],
    ['two halves, the first out of memory', [load4(2), store4(-8, 2), store4(-4, 2)], ['2: 4 bytes at -4']],
    ['the same half again', [load4(2), store4(-8, 2), store4(-8, 2)], ['2: 4 bytes at -8']],
    ['by an immediate', [op(0x7a, 10, 0, -8, 1), op(0x62, 10, 0, -4, 1)], ['1: 4 bytes at -4']],
    [
      'by another register',
      [op(0xbf, 3, 10), op(0x07, 3, 0, 0, -16), load4(2), op(0x7b, 3, 2, 8), store4(-4, 2)],
      ['4: 4 bytes at -4'],
    ],
    [
      'on one of two ways',
      [load4(2), op(0x15, 2, 0, 1), store8(-8, 2), op(0x05), store4(-4, 2)],
      ['4: 4 bytes at -4'],
    ],
    [
      'by a helper',
      [store8(-8, 1), op(0xbf, 3, 10), op(0x07, 3, 0, 0, -16), constant(4, 9), op(0x85, 0, 0, 0, 68)],
      ['4: a helper at -8'],
    ],
    ['words', [constant(1, 7), store8(-8, 1), store8(-8, 1), store8(-16, 1)], []],
    ['zero and a half', [constant(1, 0), store8(-8, 1), load4(2), store4(-4, 2)], []],
    ['the second half, then the first', [load4(2), store4(-4, 2), store4(-8, 2)], []],
    ['what a zero has replaced', [load4(2), store8(-8, 2), constant(1, 0), store8(-8, 1), store4(-4, 2)], []],
    ['what is behind an end', [load4(2), store8(-8, 2), exit, store4(-4, 2)], []],
  ];
  for (const [what, program, refused] of cases) t.same(partialStackWrites([...program, exit]), refused, what);
  t.throws(() => partialStackWrites([op(0x85, 0, 0, 0, 68)]), /0: whereto\?/);
  t.throws(() => partialStackWrites([op(0x85, 0, 0, 0, 6)]), /0: does helper 6 write/);
  t.end();
});
