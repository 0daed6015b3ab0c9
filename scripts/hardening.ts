// Is a binary hardened? What the linker made of the flags in binding.gyp, read from the file.
import { dynamicSymbols, readelf } from './abi.ts';

/** What a machine can enforce about jumps and returns, as readelf names it: all objects must have had the note. */
const BRANCH_PROTECTION: Record<string, readonly string[]> = {
  'Advanced Micro Devices X86-64': ['x86 feature: IBT, SHSTK'],
  AArch64: ['AArch64 feature: BTI, PAC'],
};

/** `GNU_STACK 0x000000 0x…0 0x…0 0x000000 0x000000 RW  0x10` */
function segments(file: string): { type: string; flags: string }[] {
  const row = /^ +([A-Z_]+) +(?:0x[0-9a-f]+ +){5}([RWE ]{3}) 0x/gm;
  return [...readelf(file, '--program-headers').matchAll(row)].map(([, type, flags]) => ({
    type: type!,
    flags: flags!,
  }));
}

/** What of it is missing, one line each. */
export function hardeningProblems(file: string): string[] {
  const problems: string[] = [];
  const all = segments(file);
  const stack = all.find(({ type }) => type === 'GNU_STACK');
  if (stack === undefined || stack.flags.includes('E')) problems.push('has a stack that can be executed');
  if (all.some(({ flags }) => flags.includes('W') && flags.includes('E')))
    problems.push('has memory that can be written and executed');
  if (!all.some(({ type }) => type === 'GNU_RELRO'))
    problems.push('has no RELRO: its relocated pointers stay writable');

  const dynamic = readelf(file, '--dynamic');
  if (!/\(FLAGS\).*BIND_NOW|\(FLAGS_1\).*NOW|\(BIND_NOW\)/.test(dynamic))
    problems.push('binds symbols late: the pointers to them stay writable');
  if (/TEXTREL/.test(dynamic)) problems.push('has relocations in its code');

  const machine = /Machine: +(.*)/.exec(readelf(file, '--file-header'))![1]!;
  const notes = readelf(file, '--notes');
  for (const property of BRANCH_PROTECTION[machine]!) {
    if (!notes.includes(property)) problems.push(`lacks the property ${property}`);
  }
  if (!dynamicSymbols(file).some(({ name }) => name === '__stack_chk_fail'))
    problems.push('has no stack protector');
  return problems;
}
