// The resolver of this host, as resolv.conf(5) names it.
import { readFileSync } from 'node:fs';
import { canonicalAddress } from '../address.ts';

/** The first one; `'original'`, whichever a program means, if there is none. */
export function hostResolver(file = '/etc/resolv.conf'): { address: string } | 'original' {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return 'original';
  }
  for (const [, word] of text.matchAll(/^\s*nameserver\s+(\S+)/gm)) {
    const address = canonicalAddress(word!);
    if (address !== undefined) return { address };
  }
  return 'original';
}
