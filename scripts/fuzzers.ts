// The fuzzers of test/fuzz/, and what each is linked from.
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { root } from './native.ts';

export interface Fuzzer {
  name: string;
  /** Paths below the root of the repository. */
  source: string;
  /** What is under test: the files that the comment at the top of the source names. */
  sources: string[];
}

export function fuzzers(): Fuzzer[] {
  const names = readdirSync(join(root, 'test/fuzz')).filter((name) => name.endsWith('.cc'));
  return names.sort().map((file) => {
    const source = join('test/fuzz', file);
    const [, about = ''] =
      /^\/\/ sources:((?:.*\n\/\/)*.*)/.exec(readFileSync(join(root, source), 'utf8')) ?? [];
    return { name: basename(file, '.cc'), source, sources: about.match(/src\/\w+\/\w+\.cc/g) ?? [] };
  });
}
