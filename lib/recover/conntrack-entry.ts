// ctnetlink: the conntrack entry of one flow.
import { constants } from 'node:os';
import { type Endpoint, formatEndpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { type AddressRole, endpointAt, Role } from './kernel-answer.ts';
import type { Place } from './place.ts';

const { EEXIST, ENOENT } = constants.errno;

/** Protocol numbers of IP. */
export const TCP = 6;
export const UDP = 17;

/** What conntrack remembers of a flow. */
export interface ConntrackEntry {
  /** Where its first packet was going. */
  original: Endpoint;
  /** Until the entry times out unless another packet comes. */
  seconds: number;
}

/**
 * ctnetlink (`NETLINK_NETFILTER`, `IPCTNL_MSG_CT_GET`) by the reply tuple: the entry of the UDP flow between
 * this host's `local` address and `peer`, in one of the given conntrack zones. Whoever asks says conntrackForget() in the end.
 *
 * @returns the entry, or a negative errno: `ENOENT` (no entry), `EPERM` (needs CAP_NET_ADMIN), `EEXIST` (two zones
 *   disagree, and nothing tells which one the packet went through), others where the kernel has no ctnetlink
 * Source: net/netfilter/nf_conntrack_netlink.c, ctnetlink_get_conntrack.
 */
export function lookupEntry(
  zones: readonly number[],
  local: AddressRole,
  peer: AddressRole,
  { where }: Place,
): ConntrackEntry | number {
  let found: ConntrackEntry | undefined;
  for (const zone of zones) {
    const answer = binding().conntrackLookup(UDP, zone, local, peer, Role.scratch, where, true);
    if (answer === -ENOENT) continue;
    if (answer < 0) return answer;
    const original = endpointAt(Role.scratch);
    if (found && formatEndpoint(found.original) !== formatEndpoint(original)) return -EEXIST;
    found = { original, seconds: answer };
  }
  return found ?? -ENOENT;
}
