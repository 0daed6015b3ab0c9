// The BPF programs that are committed are those of the sources; no compiler is needed to see that.
import { readFileSync } from 'node:fs';
import t from 'tap';
import { bpfHash, bpfHeader } from '../../scripts/bpf-sources.ts';

t.test('src/ebpf/programs.h is made of the programs’ sources as they are', (t) => {
  const [, hash] = /SHA-256:\n\/\/ ([\da-f]{64})\n/.exec(readFileSync(bpfHeader, 'utf8')) ?? [];
  t.equal(hash, bpfHash(), 'run `npm run build:bpf`');
  t.end();
});
