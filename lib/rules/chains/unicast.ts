// Rules that leave alone what is meant for many hosts: DHCP, mDNS, NetBIOS, DHCPv6. Programs of this host wait for such
// datagrams, and no proxy could answer in the name of the destination.
import type { Family } from '../config/config.ts';
import { MULTICAST } from '../config/ranges.ts';
import type { Direction } from '../config/settings.ts';
import type { AddressType, Rule } from '../types.ts';

/** What this host takes in, of what is not forwarded. A gateway has an anycast address in each of its IPv6 networks. */
const OWN: Record<Family, readonly AddressType[]> = {
  IPv4: ['local', 'broadcast'],
  IPv6: ['local', 'anycast'],
};

/** TCP connects to one host, and DNS asks one: only captured datagrams need these rules. */
function hasDatagrams({ protocols }: Direction): boolean {
  return protocols.includes('udp');
}

function multicast(family: Family): Rule {
  return { when: { destinations: [MULTICAST[family]] }, action: { do: 'return' }, why: 'multicast packet' };
}

/** For a direction whose packets may have any destination. */
export function notUnicast(direction: Direction, family: Family): Rule[] {
  if (!hasDatagrams(direction)) return [];
  const broadcast: Rule = {
    when: { addressTypes: ['broadcast'] },
    action: { do: 'return' },
    why: 'broadcast packet',
  };
  return family === 'IPv4' ? [multicast(family), broadcast] : [multicast(family)];
}

/** For packets that come in: only those that are to leave again are a gateway's. */
export function notForwarded(direction: Direction, family: Family): Rule[] {
  const own: Rule = {
    when: { addressTypes: OWN[family] },
    action: { do: 'return' },
    why: 'for this host',
  };
  return hasDatagrams(direction) ? [multicast(family), own] : [own];
}
