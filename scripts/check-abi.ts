// Do the shipped binaries ask the process that loads them for anything new?
import { checkAbi } from './abi.ts';
import { ensureTools, targets, type Arch } from './native.ts';
import { libcOf, prebuildFile } from './prebuilds.ts';
import { summary } from './summary.ts';

const arches = Object.keys(targets) as Arch[];
ensureTools('readelf', ...arches.map((arch) => targets[arch].compiler));
summary(
  arches.map((arch) => {
    const { glibc, problems } = checkAbi(prebuildFile(arch), libcOf(arch));
    return { name: `linux-${arch}`, problems, details: `glibc ≥ ${glibc} or musl` };
  }),
);
