// The addresses of names, for those who dial by name: asked for once, kept for as long as they hold.
import { canonicalAddress } from '../address.ts';
import { invalidType, outOfRange } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { canonicalName } from '../host-name.ts';
import { dns } from '../node/on-demand.ts';

/** An address, and for how many milliseconds the name has it. */
export interface ResolvedAddress {
  address: string;
  /** Default 10,000. */
  ttl?: number;
}

/** How names are resolved. */
export interface ResolveOptions {
  /**
   * - `system` (default): getaddrinfo(3), with /etc/hosts and what else the host is set up for. It tells no TTL: an
   *   answer is kept for ten seconds.
   * - `dns`: the servers of resolv.conf are asked for A and AAAA, and the TTLs hold, up to an hour.
   * - a function of your own, which rejects for a name that does not exist
   */
  resolver?: 'system' | 'dns' | ((name: string) => PromiseLike<readonly ResolvedAddress[]>);
  /** Which family is dialled first; then they take turns (RFC 8305). Default `'verbatim'`: as the resolver has it. */
  order?: 'verbatim' | 'ipv4first' | 'ipv6first';
}

const DEFAULT_TTL = 10_000;
const MAX_TTL = 3_600_000;
const MAX_NAMES = 4096;

/** Throws unless these say how to resolve names. */
export function checkResolve(name: string, options: unknown): asserts options is ResolveOptions | undefined {
  if (options === undefined) return;
  if (typeof options !== 'object' || options === null) throw invalidType(name, 'of type object', options);
  const { resolver = 'system', order = 'verbatim' } = options as ResolveOptions;
  if (typeof resolver !== 'function' && resolver !== 'system' && resolver !== 'dns')
    throw outOfRange(`${name}.resolver`, "'system', 'dns' or a function", resolver);
  if (!['verbatim', 'ipv4first', 'ipv6first'].includes(order))
    throw outOfRange(`${name}.order`, "'verbatim', 'ipv4first' or 'ipv6first'", order);
}

/** A and AAAA of the servers in resolv.conf. One of the two may fail. */
async function askServers(name: string): Promise<ResolvedAddress[]> {
  const resolver = new (dns().promises.Resolver)();
  const both = await Promise.allSettled([
    resolver.resolve6(name, { ttl: true }),
    resolver.resolve4(name, { ttl: true }),
  ]);
  const found = both.flatMap((each) => (each.status === 'fulfilled' ? each.value : []));
  if (found.length === 0)
    throw (both.find((each) => each.status === 'rejected') as PromiseRejectedResult).reason;
  return found.map(({ address, ttl }) => ({ address, ttl: ttl * 1000 }));
}

/** Resolves each name once at a time. */
export class NameResolver {
  readonly #resolver: (name: string) => PromiseLike<readonly ResolvedAddress[]>;
  readonly #known = new Map<string, { until: number; addresses: Promise<string[]> }>();

  constructor({ resolver = 'system', order = 'verbatim' }: ResolveOptions = {}) {
    const first = order === 'verbatim' ? undefined : order === 'ipv4first' ? 4 : 6;
    const sorted = (found: readonly ResolvedAddress[]): readonly ResolvedAddress[] => {
      if (first === undefined) return found;
      const isFirst = ({ address }: ResolvedAddress): boolean => address.includes(':') === (first === 6);
      return [...found.filter(isFirst), ...found.filter((each) => !isFirst(each))];
    };
    const ask =
      typeof resolver === 'function'
        ? resolver
        : resolver === 'dns'
          ? askServers
          : (name: string) => dns().promises.lookup(name, { all: true, verbatim: true });
    this.#resolver = async (name) => sorted(await ask(name));
  }

  /** How many names are known. */
  get size(): number {
    return this.#known.size;
  }

  /**
   * The addresses, in canonical form and in the order in which to dial them, at least one. Rejects with the resolver's
   * error, and with `ERR_NAME_REFUSED` for what is no host name.
   */
  async resolve(text: string): Promise<string[]> {
    const name = canonicalName(text);
    if (name === undefined) {
      const shown = JSON.stringify(text.slice(0, 100));
      throw codedError('ERR_NAME_REFUSED', `${shown} is no host name`);
    }
    const known = this.#known.get(name);
    if (known && known.until > Date.now()) return known.addresses;
    const entry = { until: Number.POSITIVE_INFINITY, addresses: this.#ask(name) };
    this.#known.delete(name);
    this.#known.set(name, entry);
    if (this.#known.size > MAX_NAMES) this.#known.delete(this.#known.keys().next().value!);
    return entry.addresses;
  }

  async #ask(name: string): Promise<string[]> {
    const addresses: string[] = [];
    let ttl = MAX_TTL;
    try {
      for (const found of await this.#resolver(name)) {
        const address = canonicalAddress(found.address);
        if (address === undefined) throw invalidType('address', 'a literal IP address', found.address);
        addresses.push(address);
        ttl = Math.min(ttl, found.ttl ?? DEFAULT_TTL);
      }
      if (addresses.length === 0) throw codedError('ERR_NAME_REFUSED', `${name} has no address`);
    } catch (error) {
      this.#known.delete(name);
      throw error;
    }
    const entry = this.#known.get(name);
    if (entry) entry.until = Date.now() + ttl;
    return addresses;
  }
}
