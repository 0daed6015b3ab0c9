// Do the shipped binaries ask the process that loads them for anything new, and are they hardened?
import { ensureTools, targets, type Arch } from './native.ts';
import { inspectPrebuild } from './prebuilds.ts';
import { summary } from './summary.ts';

const arches = Object.keys(targets) as Arch[];
ensureTools('readelf', 'musl-gcc', ...arches.map((arch) => targets[arch].compiler));
summary(
  arches.map((arch) => {
    const { glibc, problems } = inspectPrebuild(arch);
    return { name: `linux-${arch}`, problems, details: `glibc ≥ ${glibc} or musl, hardened` };
  }),
);
