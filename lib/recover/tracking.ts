// Is conntrack at work here?
import { existsSync } from 'node:fs';
import { binding } from '../binding.ts';
import { ByPlace, type Place } from './place.ts';

/**
 * How long conntrack, once seen at work, counts as being so, in milliseconds: for a minute a client goes on trying to
 * connect, and longer than that no program should keep it waiting to be accepted.
 */
const BELIEVED_MS = 60_000;

const activeUntil = new ByPlace<{ [family in 4 | 6]: number }>(() => ({ 4: 0, 6: 0 }));

/** Conntrack has told about a connection, so it was at work there when that was made. */
export function conntrackSeen(family: 4 | 6, place: Place): void {
  activeUntil.get(place)[family] = performance.now() + BELIEVED_MS;
}

/** Was conntrack at work there lately? */
export function conntrackSeenLately(family: 4 | 6, place: Place): boolean {
  return performance.now() < activeUntil.get(place)[family];
}

/**
 * Is conntrack at work in that network namespace, or was it lately? Undefined: it could not be found out.
 *
 * This is what tells a direct connection in a namespace without conntrack from a redirected one whose entry is
 * gone: neither has an entry, and the second one's local address is not where it was going.
 *
 * Only "yes" is remembered. "No", remembered, would make a redirected connection `direct`: rules may have come since,
 * it through them, and its entry lost. A fresh "no" alone says too little as well: rules and entry may have gone
 * together while the connection waited to be accepted. So for a minute after the last sign of conntrack, a connection
 * without an entry is `unknown`. What is left is a rule that came and went unseen, with one connection in between.
 */
export function conntrackActive(family: 4 | 6, place: Place): boolean | undefined {
  if (conntrackSeenLately(family, place)) return true;
  const answer = binding().conntrackActive(family, place.where);
  if (answer === 1) conntrackSeen(family, place);
  return answer < 0 ? undefined : answer === 1;
}

/** Does this kernel have connection tracking at all, loaded or built in? */
export function conntrackPresent(): boolean {
  return existsSync('/proc/sys/net/netfilter/nf_conntrack_max');
}
