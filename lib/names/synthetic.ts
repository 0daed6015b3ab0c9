// Addresses that stand for names: each name its own, for good.
import { addressBits, canonicalAddress, familyOf, type Endpoint } from '../address.ts';
import { invalidType, outOfRange } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { canonicalName } from '../host-name.ts';

export interface SyntheticOptions {
  /** A prefix of IPv4, /30 or shorter. Default `198.18.0.0/15` (RFC 2544), which the Internet does not route. */
  ipv4?: string;
  /** A prefix of IPv6, /112 or shorter. Default `fd64:6e73:6e61:6d65::/64`, unique-local (RFC 4193). */
  ipv6?: string;
  /** The names that have addresses already, in the order of these: what `toJSON()` gave before a restart. */
  names?: readonly string[];
}

const BITS = { IPv4: 32, IPv6: 128 } as const;

/** An address of the prefix, by the number behind it. */
function nth(prefix: string, family: Endpoint['family'], number: number): string {
  const size = BITS[family];
  const bits = prefix + number.toString(2).padStart(size - prefix.length, '0');
  const step = family === 'IPv4' ? 8 : 16;
  const parts = Array.from({ length: size / step }, (_, i) =>
    Number.parseInt(bits.slice(i * step, (i + 1) * step), 2),
  );
  return canonicalAddress(
    family === 'IPv4' ? parts.join('.') : parts.map((word) => word.toString(16)).join(':'),
  )!;
}

/** The bits of a prefix. */
function readPrefix(option: string, text: unknown, family: Endpoint['family'], longest: number): string {
  const [written = '', length] = typeof text === 'string' ? text.split('/') : [];
  const address = canonicalAddress(written);
  if (address === undefined || familyOf(address) !== family || written.includes('%'))
    throw invalidType(option, `a prefix of ${family}`, text);
  if (!/^\d{1,3}$/.test(length ?? '') || Number(length) > longest)
    throw outOfRange(option, `a prefix of at most ${longest} bits`, text);
  const bits = addressBits(address);
  if (bits.slice(Number(length)).includes('1'))
    throw outOfRange(option, 'a prefix with no bits set beyond its length', text);
  return bits.slice(0, Number(length));
}

/**
 * Gives each name an IPv4 and an IPv6 address of its own, that no other name is ever given: whoever comes to one of
 * them wants that name, whatever the protocol and however long ago it was asked. `JSON.stringify` keeps them.
 */
export class SyntheticAddresses {
  readonly #prefixes: Record<Endpoint['family'], string>;
  /** By slot; address 0 of the prefix is nobody's. */
  readonly #names: string[] = [];
  readonly #slots = new Map<string, number>();

  constructor(options: SyntheticOptions = {}) {
    const { ipv4 = '198.18.0.0/15', ipv6 = 'fd64:6e73:6e61:6d65::/64', names = [] } = options;
    this.#prefixes = {
      IPv4: readPrefix('options.ipv4', ipv4, 'IPv4', 30),
      IPv6: readPrefix('options.ipv6', ipv6, 'IPv6', 112),
    };
    if (!Array.isArray(names)) throw invalidType('options.names', 'an array of names', names);
    for (const name of names as unknown[]) {
      const known = this.#names.length;
      if (typeof name !== 'string' || this.addressesFor(name) === undefined || this.#names.length === known)
        throw codedError('ERR_INVALID_ARG_VALUE', 'Each of "options.names" must be a name, and another one', {
          base: TypeError,
        });
    }
  }

  /** The two addresses of a name. Undefined for what is no name, and for a new one when none is left. */
  addressesFor(text: string): { ipv4: string; ipv6: string } | undefined {
    const name = canonicalName(text);
    if (name === undefined) return undefined;
    let slot = this.#slots.get(name);
    if (slot === undefined) {
      slot = this.#names.length + 1;
      // The last of an IPv4 prefix is its broadcast address.
      const room = 2 ** Math.min(32 - this.#prefixes.IPv4.length, 128 - this.#prefixes.IPv6.length) - 1;
      if (slot >= room) return undefined;
      this.#slots.set(name, slot);
      this.#names.push(name);
    }
    return { ipv4: nth(this.#prefixes.IPv4, 'IPv4', slot), ipv6: nth(this.#prefixes.IPv6, 'IPv6', slot) };
  }

  /** Whose address it is, in canonical form. Undefined for one that is nobody's. */
  nameOf(address: string): string | undefined {
    const bare = address.split('%')[0]!;
    const prefix = this.#prefixes[familyOf(bare)];
    const bits = addressBits(bare);
    if (!bits.startsWith(prefix)) return undefined;
    return this.#names[Number(BigInt(`0b${bits.slice(prefix.length)}`)) - 1];
  }

  /** Options that make the same addresses of the same names. */
  toJSON(): Required<SyntheticOptions> {
    const { IPv4, IPv6 } = this.#prefixes;
    return {
      ipv4: `${nth(IPv4, 'IPv4', 0)}/${IPv4.length}`,
      ipv6: `${nth(IPv6, 'IPv6', 0)}/${IPv6.length}`,
      names: [...this.#names],
    };
  }
}
