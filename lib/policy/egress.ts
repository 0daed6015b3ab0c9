import { BlockList } from 'node:net';
import { familyOf, formatEndpoint, type Endpoint } from '../address.ts';
import { invalidType } from '../arguments.ts';
import { codedError, type CodedError } from '../errors.ts';

/** Where a dial may go. A destination in `deny` is refused, and with `allow` so is every one that is not in it. */
export interface EgressPolicy {
  allow?: BlockList;
  deny?: BlockList;
}

/** Throws unless `value` is an egress policy. */
export function checkEgress(name: string, value: unknown): asserts value is EgressPolicy | undefined {
  if (value === undefined) return;
  if (typeof value !== 'object' || value === null) throw invalidType(name, 'of type object', value);
  const { allow, deny } = value as EgressPolicy;
  for (const [key, list] of Object.entries({ allow, deny })) {
    if (list !== undefined && !(list instanceof BlockList))
      throw invalidType(`${name}.${key}`, 'an instance of net.BlockList', list);
  }
}

function contains(list: BlockList, address: string): boolean {
  // A BlockList knows no interfaces: `fe80::1%eth0` is in no list, whatever the list says.
  const [bare = address] = address.split('%');
  return list.check(bare, familyOf(bare) === 'IPv4' ? 'ipv4' : 'ipv6');
}

/** The error that a dial to `destination` ends with under this policy, or undefined when it may go on. */
export function egressRefusal(
  policy: EgressPolicy | undefined,
  destination: Pick<Endpoint, 'address' | 'port'>,
): CodedError | undefined {
  const { allow, deny } = policy ?? {};
  const { address } = destination;
  const denied = deny !== undefined && contains(deny, address);
  if (!denied && (allow === undefined || contains(allow, address))) return undefined;
  return codedError(
    'ERR_EGRESS_DENIED',
    `The egress policy ${denied ? 'denies' : 'does not allow'} ${formatEndpoint(destination)}`,
  );
}
