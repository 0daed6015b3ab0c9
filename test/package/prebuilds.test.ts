// The shipped binaries: made from these sources, and what they ask for.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { checkAbi } from '../../scripts/abi.ts';
import { hardeningProblems } from '../../scripts/hardening.ts';
import { targets, type Arch } from '../../scripts/native.ts';
import {
  addonApiVersion,
  compilerVersion,
  hashInputs,
  libcOf,
  makePrebuild,
  prebuildFile,
  readManifest,
  sha256,
} from '../../scripts/prebuilds.ts';

const arches = Object.keys(targets) as Arch[];
const manifest = readManifest();

t.test('the shipped binaries are built from the sources at hand', (t) => {
  const stale = 'prebuilds/ are out of date: run `npm run prebuild` and commit the folder';
  t.equal(manifest.inputs, hashInputs(), stale);
  t.equal(manifest.nodeAddonApi, addonApiVersion(), stale);
  for (const arch of arches) {
    t.equal(sha256(readFileSync(prebuildFile(arch))), manifest.binaries[arch].sha256, `${arch}: ${stale}`);
  }
  t.end();
});

t.test('the shipped binaries ask for no library and no new symbol', (t) => {
  // The other architecture's libc comes with its cross compiler, which only `npm run prebuild` needs.
  for (const arch of arches) {
    const { problems } = checkAbi(prebuildFile(arch), arch === process.arch ? libcOf(arch) : undefined);
    t.same(problems, [], arch);
  }
  t.end();
});

t.test('the shipped binaries are hardened', (t) => {
  for (const arch of arches) t.same(hardeningProblems(prebuildFile(arch)), [], arch);
  t.end();
});

t.test('each protection that is missing is named', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'original-dst-weak-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const source = join(directory, 'weak.c');
  const file = join(directory, 'weak.so');
  writeFileSync(
    source,
    `int variable;
     int* address(void) { return &variable; }
     __asm__(".section .both,\\"awx\\"\\n.byte 0\\n.previous");`,
  );
  const branches = process.arch === 'x64' ? '-fcf-protection=none' : '-mbranch-protection=none';
  const weak = ['norelro', 'lazy', 'execstack', 'notext'].map((keyword) => `-Wl,-z,${keyword}`);
  const code = ['-fno-pic', '-mcmodel=large', '-fno-stack-protector', branches];
  execFileSync('gcc', ['-shared', '-nostdlib', ...code, ...weak, '-o', file, source], { stdio: 'pipe' });
  t.match(hardeningProblems(file), [
    /stack that can be executed/,
    /written and executed/,
    /no RELRO/,
    /binds symbols late/,
    /relocations in its code/,
    /lacks the property (x86|AArch64) feature/,
    /no stack protector/,
  ]);
  t.end();
});

t.test('a binary of the ordinary kind is refused', (t) => {
  const { problems } = checkAbi('/bin/sh', libcOf(process.arch as Arch));
  const text = problems.join('\n');
  t.match(text, /needs the library libc\.so\.6/);
  t.match(text, /wants fork in the version GLIBC_2\./);
  t.match(text, /wants fork, which is not in scripts\/abi-symbols\.txt/);
  t.end();
});

t.test('a build in another directory gives the same bits', { timeout: 280_000 }, (t) => {
  const arch = process.arch as Arch;
  const directory = mkdtempSync(join(tmpdir(), 'original-dst-another-directory-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  makePrebuild(arch, join(directory, 'once'), join(directory, 'once.node'));
  const once = readFileSync(join(directory, 'once.node'));
  t.same(hardeningProblems(join(directory, 'once.node')), [], 'hardened');
  if (compilerVersion(arch) === manifest.binaries[arch].compiler) {
    t.equal(sha256(once), manifest.binaries[arch].sha256, 'as shipped');
  } else {
    makePrebuild(arch, join(directory, 'and/again'), join(directory, 'again.node'));
    t.ok(readFileSync(join(directory, 'again.node')).equals(once), 'twice here');
  }
  t.end();
});
