// Where a dial may go.
import { BlockList } from 'node:net';
import { canonicalAddress, dialledAddress, familyOf, formatEndpoint, type Endpoint } from '../address.ts';
import { invalidType } from '../arguments.ts';
import { codedError, type CodedError } from '../errors.ts';
import { NamePolicy, type PolicySubject } from './name-policy.ts';

/**
 * Where a dial may go. A destination in `deny` is refused, and with `allow` so is every one that is not in it.
 *
 * A rule of a list speaks of its own family: `::/0` is all of IPv6 and nothing of IPv4, unlike in
 * `BlockList.check()`. One for IPv6 holds IPv4 only when it is written in mapped addresses, `::ffff:10.0.0.0/104`.
 * `0.0.0.0` and `::`, which connect(2) takes for this host, are judged as `127.0.0.1` and `::1`. Lists may be added
 * to at any time.
 */
export interface EgressLists {
  allow?: BlockList;
  deny?: BlockList;
}

/** Where a dial may go: lists of addresses, or rules by name, address, port and protocol. */
export type EgressPolicy = EgressLists | NamePolicy;

/** A dial, as far as a policy may want to know of it; the address in canonical form. */
export type EgressSubject = Pick<Endpoint, 'address' | 'port'> &
  Pick<PolicySubject, 'name' | 'ech' | 'protocol'>;

/** Throws unless `value` is an egress policy. */
export function checkEgress(name: string, value: unknown): asserts value is EgressPolicy | undefined {
  if (value === undefined || value instanceof NamePolicy) return;
  if (typeof value !== 'object' || value === null) throw invalidType(name, 'of type object', value);
  const { allow, deny } = value as EgressLists;
  for (const [key, list] of Object.entries({ allow, deny })) {
    if (list !== undefined && !(list instanceof BlockList))
      throw invalidType(`${name}.${key}`, 'an instance of net.BlockList', list);
  }
}

/** In these two, or in neither, is an IPv6 rule that reaches beyond the IPv4-mapped addresses on one side. */
const BESIDE_MAPPED = ['::fffe:ffff:ffff', '::1:0:0:0'] as const;

/** The rules of a list that speak of IPv4: those for IPv4, and those for IPv6 that hold mapped addresses only. */
function ipv4Rules(list: BlockList): BlockList {
  const own = new BlockList();
  for (const rule of list.rules) {
    // `Subnet: IPv6 ::ffff:10.0.0.0/104`, `Range: IPv4 10.0.0.1-10.0.0.9`, `Address: IPv4 10.0.0.1`
    const [, family, start = '', bits, end = start] = /: (IPv[46]) ([^-/]+)(?:\/(\d+)|-(.+))?$/.exec(rule)!;
    const [first, last] = [canonicalAddress(start)!, canonicalAddress(end)!];
    if (familyOf(first) === 'IPv6' || familyOf(last) === 'IPv6') continue;
    if (bits === undefined) own.addRange(first, last);
    else if (family === 'IPv4') own.addSubnet(first, Number(bits));
    else if (Number(bits) >= 96) own.addSubnet(first, Number(bits) - 96);
  }
  return own;
}

/**
 * Is the address, in canonical form, in the list? Each family by its own rules: a BlockList alone takes IPv4 for
 * `::ffff:a.b.c.d`, so that `::/0`, which is said to mean all of IPv6, holds all of IPv4 as well.
 */
export function listed(list: BlockList, address: string): boolean {
  // A BlockList knows no interfaces: `fe80::1%eth0` is in no list, whatever the list says.
  const [bare = address] = address.split('%');
  if (familyOf(bare) === 'IPv6') return list.check(bare, 'ipv6');
  // A range of mapped addresses holds only these: its ends are not compared with IPv4.
  if (!list.check(bare) && !list.check(`::ffff:${bare}`, 'ipv6')) return false;
  // To read the rules costs more than all else, and few lists have a rule that misleads.
  return !BESIDE_MAPPED.some((beside) => list.check(beside, 'ipv6')) || ipv4Rules(list).check(bare);
}

/** Every dial of this package is TCP. */
function ruleRefusal(policy: NamePolicy, destination: EgressSubject): CodedError | undefined {
  const { allowed, because } = policy.explain({ ...destination, protocol: destination.protocol ?? 'tcp' });
  if (allowed) return undefined;
  const name = destination.name === undefined ? '' : `${destination.name} at `;
  return codedError(
    'ERR_EGRESS_DENIED',
    `The egress policy does not allow ${name}${formatEndpoint(destination)}: ${because}`,
  );
}

/** The error that every dial to a name ends with under this policy, whatever its addresses, or undefined. */
export function nameRefusal(
  policy: EgressPolicy | undefined,
  { name, port }: { name: string; port: number },
): CodedError | undefined {
  if (!(policy instanceof NamePolicy)) return undefined;
  const { allowed, rule, because } = policy.explain({ name, port, protocol: 'tcp' });
  // Without a rule about the name one about its address may allow it.
  if (allowed || rule === undefined) return undefined;
  return codedError(
    'ERR_EGRESS_DENIED',
    `The egress policy does not allow ${name}, port ${port}: ${because}`,
  );
}

/** The error that a dial to `destination`, its address in canonical form, ends with under this policy, or undefined when it may go on. */
export function egressRefusal(
  policy: EgressPolicy | undefined,
  destination: EgressSubject,
): CodedError | undefined {
  if (policy instanceof NamePolicy) return ruleRefusal(policy, destination);
  const { allow, deny } = policy ?? {};
  // Either name of this host will do to deny it; to allow it, the one that it is dialled by.
  const dialled = dialledAddress(destination.address);
  const denied = deny !== undefined && (listed(deny, destination.address) || listed(deny, dialled));
  if (!denied && (allow === undefined || listed(allow, dialled))) return undefined;
  return codedError(
    'ERR_EGRESS_DENIED',
    `The egress policy ${denied ? 'denies' : 'does not allow'} ${formatEndpoint(destination)}`,
  );
}
