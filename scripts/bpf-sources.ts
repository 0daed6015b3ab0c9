// The sources of the BPF programs, and the header that is made of them.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './native.ts';

const directory = join(root, 'src/ebpf/programs');

/** What the addon is built with. */
export const bpfHeader = join(root, 'src/ebpf/programs.h');

/** Each object by the prefix of its names in the header. */
export const bpfObjects = {
  Capture: join(directory, 'capture.bpf.c'),
  Listener: join(directory, 'listener.bpf.c'),
};

/** All that clang reads, apart from the kernel's own headers. */
export function bpfSources(): string[] {
  return readdirSync(directory)
    .sort()
    .map((name) => join(directory, name));
}

/** SHA-256 of the sources. */
export function bpfHash(): string {
  const hash = createHash('sha256');
  for (const source of bpfSources()) hash.update(readFileSync(source));
  return hash.digest('hex');
}
