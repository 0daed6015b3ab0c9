// Is an address one of this host's?
import { binding } from '../binding.ts';
import { type AddressRole, endpointAt } from './kernel-answer.ts';
import { ByPlace, type Place } from './place.ts';

/** How long an address is believed to be this host's, in milliseconds: the list of interfaces costs 25 µs to read. */
const BELIEVED_MS = 1000;
const MAX_REMEMBERED = 256;

const believed = new ByPlace(() => new Map<string, number>());

/**
 * `getifaddrs(3)`: is the address in that role one of the interfaces' there? A negative errno: that place cannot be asked.
 *
 * Only "yes" is remembered. An answer out of date by a second can call a connection `direct` that was `tproxy`,
 * but the destination is the local address in both.
 */
export function isOwnAddress(role: AddressRole, place: Place): boolean | number {
  const believedUntil = believed.get(place);
  const { address } = endpointAt(role);
  const now = performance.now();
  const until = believedUntil.get(address);
  if (until !== undefined && now < until) return true;
  const answer = binding().isInterfaceAddress(role, place.where);
  if (answer < 0 && place.isElsewhere) return answer;
  // Any other error (no memory, no fd) counts as "yes": the cautious side, from which `unknown` is still possible.
  const own = answer !== 0;
  if (own) {
    if (believedUntil.size >= MAX_REMEMBERED) believedUntil.clear();
    believedUntil.set(address, now + BELIEVED_MS);
  }
  return own;
}
