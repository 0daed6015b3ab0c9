import { existsSync } from 'node:fs';
import { binding } from '../binding.ts';

/** How long "yes" is believed, in milliseconds: it costs some 30 µs to ask. */
const BELIEVED_MS = 1000;

const activeUntil: { [family in 4 | 6]: number } = { 4: 0, 6: 0 };

/**
 * Is conntrack at work in this network namespace? Undefined: it could not be found out.
 *
 * This is what tells a direct connection in a namespace without conntrack from a redirected one whose entry is
 * gone: neither has an entry, and the second one's local address is not where it was going.
 *
 * Only "yes" is remembered. Out of date it makes a direct connection `unknown` for a second after the last rule has
 * gone. "No", remembered, would make a redirected one `direct`: rules may have come since, it through them, and its
 * entry lost. What "no" cannot exclude either way is that rules and entry went together while it waited.
 */
export function conntrackActive(family: 4 | 6): boolean | undefined {
  const now = performance.now();
  if (now < activeUntil[family]) return true;
  const answer = binding().conntrackActive(family);
  if (answer === 1) activeUntil[family] = now + BELIEVED_MS;
  return answer < 0 ? undefined : answer === 1;
}

/** Does this kernel have connection tracking at all, loaded or built in? */
export function conntrackPresent(): boolean {
  return existsSync('/proc/sys/net/netfilter/nf_conntrack_max');
}
