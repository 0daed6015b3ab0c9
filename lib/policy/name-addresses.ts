// Which addresses a name may lead to: none that only this host, its link or its cloud should know.
import { addressBits, familyOf, type Endpoint } from '../address.ts';
import { codedError, type CodedError } from '../errors.ts';

/** Prefixes, by what they are for. RFC 6890, RFC 4291, RFC 8215; the last of each family are clouds' metadata servers. */
const SPECIAL: readonly (readonly [address: string, length: number, what: string])[] = [
  ['0.0.0.0', 8, 'this host'],
  ['127.0.0.0', 8, 'loopback'],
  ['169.254.0.0', 16, 'link-local'],
  ['224.0.0.0', 4, 'multicast'],
  ['240.0.0.0', 4, 'reserved'],
  ['100.100.100.200', 32, 'a metadata server'],
  // The unspecified address, loopback, and IPv4 written as IPv6 long ago.
  ['::', 96, 'this host'],
  ['fe80::', 10, 'link-local'],
  ['fec0::', 10, 'site-local'],
  ['ff00::', 8, 'multicast'],
  ['64:ff9b:1::', 48, 'a translator of this network'],
  ['fd00:ec2::254', 128, 'a metadata server'],
];
const PREFIXES = SPECIAL.map(([address, length, what]) => ({
  family: familyOf(address),
  bits: addressBits(address).slice(0, length),
  what,
}));
/** Where an IPv6 address holds the IPv4 address that it will come to: NAT64 (RFC 6052) and 6to4 (RFC 3056). */
const CARRIERS = [
  { bits: addressBits('64:ff9b::').slice(0, 96), at: 96 },
  { bits: addressBits('2002::').slice(0, 16), at: 16 },
];

/** The IPv4 address that an address in canonical form is translated to on its way, or undefined. */
export function carriedAddress(address: string): string | undefined {
  if (familyOf(address) === 'IPv4') return undefined;
  const bits = addressBits(address.split('%')[0]!);
  const carrier = CARRIERS.find((each) => bits.startsWith(each.bits));
  if (!carrier) return undefined;
  const starts = [0, 8, 16, 24].map((byte) => carrier.at + byte);
  return starts.map((start) => Number.parseInt(bits.slice(start, start + 8), 2)).join('.');
}

/**
 * Why a name must not lead to an address, in canonical form, or undefined when it may. Who owns a name chooses where
 * it leads, and may choose what only this host can reach (DNS rebinding).
 */
export function nameAddressRefusal(
  name: string,
  { address }: Pick<Endpoint, 'address'>,
): CodedError | undefined {
  const real = carriedAddress(address) ?? address;
  const bits = addressBits(real.split('%')[0]!);
  const special = PREFIXES.find((each) => each.family === familyOf(real) && bits.startsWith(each.bits));
  if (!special) return undefined;
  return codedError('ERR_NAME_REFUSED', `${name} leads to ${address}, which is ${special.what}`, {
    hint: 'dial it by its address, if that is meant: `to: { address, port }`',
  });
}
