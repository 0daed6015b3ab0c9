// The programs that namespaces take, and the packages that they are in.
import { findProgram } from '../programs.ts';

const PACKAGES = { nft: 'nftables', ip: 'iproute2', nsenter: 'util-linux', unshare: 'util-linux' } as const;

export type Tool = keyof typeof PACKAGES;

/** What makes and enters a capture. */
export const CAPTURE_TOOLS: readonly Tool[] = ['nft', 'ip', 'nsenter', 'unshare'];

/** Those that are not there, and the command that brings them; undefined: all are. */
export function missingTools(
  names: readonly Tool[],
  find: (name: string) => string | undefined = findProgram,
): { why: string; remedy: string } | undefined {
  const missing = names.filter((name) => find(name) === undefined);
  if (missing.length === 0) return undefined;
  const packages = new Set(missing.map((name) => PACKAGES[name]));
  return {
    why: `There is no program ${missing.join(' or ')} here`,
    remedy: `apt-get install ${[...packages].join(' ')}`,
  };
}
