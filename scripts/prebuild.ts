// Makes prebuilds/: both binaries and the manifest. One Debian x64 machine does it all.
//
// Not prebuildify: it builds in the project's own build/ and moves the result away, so that the next test run has
// no build of the sources at hand, and it knows no manifest.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureTools, targets, type Arch } from './native.ts';
import {
  addonApiVersion,
  compilerVersion,
  hashInputs,
  inspectPrebuild,
  makePrebuild,
  manifestFile,
  prebuildFile,
  sha256,
  type Manifest,
} from './prebuilds.ts';
import { summary, type Outcome } from './summary.ts';

const arches = Object.keys(targets) as Arch[];
ensureTools('readelf', 'musl-gcc', 'make', 'python3', ...arches.map((arch) => targets[arch].compiler));

const binaries: Partial<Manifest['binaries']> = {};
const rows: Outcome[] = [];
for (const arch of arches) {
  const directory = mkdtempSync(join(tmpdir(), 'original-dst-prebuild-'));
  try {
    makePrebuild(arch, directory, prebuildFile(arch));
  } finally {
    rmSync(directory, { recursive: true });
  }
  const { glibc, problems } = inspectPrebuild(arch);
  const content = readFileSync(prebuildFile(arch));
  binaries[arch] = { sha256: sha256(content), size: content.length, compiler: compilerVersion(arch), glibc };
  rows.push({
    name: `linux-${arch}`,
    problems,
    details: `${content.length} bytes, glibc ≥ ${glibc} or musl`,
  });
}
const manifest = { inputs: hashInputs(), nodeAddonApi: addonApiVersion(), binaries };
writeFileSync(manifestFile, `${JSON.stringify(manifest, null, 2)}\n`);
summary(rows);
