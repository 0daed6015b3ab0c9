// Builds of the addon beside the ordinary one in build/: other architectures, sanitizers, proofs.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

const NODE_GYP = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
/** The headers of an installed Node are beside it; node-gyp would download them again. */
const NODE_PREFIX = resolve(process.execPath, '../..');

/** What the shipped binaries are for, and the tool chain that makes each on Debian x64. */
export const targets = {
  x64: { compiler: 'g++', strip: 'strip' },
  arm64: { compiler: 'aarch64-linux-gnu-g++', strip: 'aarch64-linux-gnu-strip' },
} as const;
export type Arch = keyof typeof targets;

export interface NativeOptions {
  arch?: Arch;
  /** gyp variables: `{ sanitize: 'address,undefined' }`. */
  variables?: Record<string, string>;
}

/** Installs the commands where that is possible, else throws with what to install. */
export function ensureTools(...commands: string[]): void {
  execFileSync(join(root, 'scripts/ensure-tools.sh'), commands, { stdio: 'inherit' });
}

/**
 * Builds the addon from copies of its sources in `directory`, which may be used again, and returns the file's
 * path. node-gyp knows no output folder: it builds where binding.gyp is.
 */
export function buildNative(directory: string, { arch, variables = {} }: NativeOptions = {}): string {
  mkdirSync(directory, { recursive: true });
  for (const input of ['package.json', 'binding.gyp', 'src']) {
    cpSync(join(root, input), join(directory, input), { recursive: true, preserveTimestamps: true });
  }
  const modules = join(directory, 'node_modules');
  if (!existsSync(modules)) symlinkSync(join(root, 'node_modules'), modules);

  const { compiler } = targets[arch ?? (process.arch as Arch)];
  const nodeGyp = (command: string, ...args: string[]) =>
    execFileSync(process.execPath, [NODE_GYP, command, '--loglevel=error', ...args], {
      cwd: directory,
      env: { ...process.env, CC: compiler.replace('g++', 'gcc'), CXX: compiler },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  nodeGyp(
    'configure',
    ...(existsSync(join(NODE_PREFIX, 'include/node/node_api.h')) ? [`--nodedir=${NODE_PREFIX}`] : []),
    ...(arch ? [`--arch=${arch}`] : []),
    '--',
    ...Object.entries(variables).map(([name, value]) => `-D${name}=${value}`),
  );
  nodeGyp('build', '--jobs=max');
  return join(directory, 'build/Release/original_dst.node');
}
