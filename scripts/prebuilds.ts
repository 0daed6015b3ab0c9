// The binaries that the package ships, and the manifest that ties them to their sources.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { checkAbi, type AbiReport } from './abi.ts';
import { hardeningProblems } from './hardening.ts';
import { muslRefusal } from './musl.ts';
import { buildNative, root, targets, type Arch } from './native.ts';

export interface Manifest {
  /** SHA-256 of the sources: {@link hashInputs}. */
  inputs: string;
  nodeAddonApi: string;
  binaries: Record<Arch, { sha256: string; size: number; compiler: string; glibc: string }>;
}

export const manifestFile = join(root, 'prebuilds/manifest.json');

/** Where node-gyp-build looks; `napi`: one file for all versions of Node. */
export function prebuildFile(arch: Arch): string {
  return join(root, `prebuilds/linux-${arch}/original-dst.napi.node`);
}

export function readManifest(): Manifest {
  return JSON.parse(readFileSync(manifestFile, 'utf8')) as Manifest;
}

export function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}

export function addonApiVersion(): string {
  return (createRequire(import.meta.url)('node-addon-api/package.json') as { version: string }).version;
}

/** SHA-256 over everything that the binaries are made from, except for the tool chain. */
export function hashInputs(): string {
  const hash = createHash('sha256');
  const sources = readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)));
  for (const name of ['binding.gyp', ...sources.sort()]) {
    const content = readFileSync(join(root, name));
    hash.update(`${name}\0${content.length}\0`).update(content);
  }
  return hash.update(`node-addon-api ${addonApiVersion()}`).digest('hex');
}

/** The compiler's own name for its version, `g++ (Debian 12.2.0-14) 12.2.0`. */
export function compilerVersion(arch: Arch): string {
  return ask(targets[arch].compiler, '--version').split('\n')[0]!;
}

/** The libc.so.6 that a compiler links programs with. */
export function libcOf(arch: Arch): string {
  return ask(targets[arch].compiler, '-print-file-name=libc.so.6').trim();
}

function ask(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C' } });
}

/** Builds in `directory` and puts the stripped binary into `file`. */
export function makePrebuild(arch: Arch, directory: string, file: string): void {
  mkdirSync(dirname(file), { recursive: true });
  copyFileSync(buildNative(directory, { arch }), file);
  execFileSync(targets[arch].strip, [file]);
}

/** What a shipped binary asks for that it should not, and what it lacks, seen by this machine's tools. */
export function inspectPrebuild(arch: Arch): AbiReport {
  const file = prebuildFile(arch);
  const report = checkAbi(file, libcOf(arch));
  report.problems.push(...hardeningProblems(file));
  const refusal = arch === process.arch ? muslRefusal(file) : undefined;
  if (refusal !== undefined) report.problems.push(`musl: ${refusal}`);
  return report;
}
