import { existsSync } from 'node:fs';
import { binding } from '../binding.ts';

/** How long an answer about this host is believed, in milliseconds. Each costs tens of microseconds to ask. */
const BELIEVED_MS = 1000;

const probed = new Map<4 | 6, { active: boolean | undefined; at: number }>();

/**
 * Is conntrack at work in this network namespace? SO_ORIGINAL_DST of a loopback connection to a listener of our
 * own, believed for one second. Undefined: the probe could not be made.
 *
 * This is what tells a direct connection in a namespace without conntrack from a redirected one whose entry is
 * gone: both answer ENOENT, and the second one's local address is not where it was going.
 */
export function conntrackActive(family: 4 | 6): boolean | undefined {
  const now = performance.now();
  const known = probed.get(family);
  if (known && now - known.at < BELIEVED_MS) return known.active;
  const active = conntrackActiveNow(family);
  probed.set(family, { active, at: now });
  return active;
}

/** The same, found out anew. */
export function conntrackActiveNow(family: 4 | 6): boolean | undefined {
  const answer = binding().conntrackActive(family);
  return answer < 0 ? undefined : answer === 1;
}

/** Does this kernel have connection tracking at all, loaded or built in? */
export function conntrackPresent(): boolean {
  return existsSync('/proc/sys/net/netfilter/nf_conntrack_max');
}
