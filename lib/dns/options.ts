// What createDnsForwarder() can be told.
import { canonicalAddress, type Endpoint } from '../address.ts';
import { checkBoolean, checkInteger, checkOptionNames, invalidType, outOfRange } from '../arguments.ts';
import { NameTable } from '../names/name-table.ts';
import type { Namespace } from '../namespace/namespace.ts';
import { NamePolicy } from '../policy/name-policy.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { DatagramSocketOptions } from '../udp/types.ts';
import type { DnsQuestion } from './query.ts';

/**
 * What becomes of a question: a resolver is asked; REFUSED; NXDOMAIN; or these addresses are the answer (those of the
 * family that was asked for), for `ttl` milliseconds, 60,000 unless given.
 */
export type DnsVerdict =
  'forward' | 'refuse' | 'nxdomain' | { readonly addresses: readonly string[]; readonly ttl?: number };

/** Decides about each question. `destination` is the resolver that the client meant, as far as that is known. */
export type DnsDecision = (
  question: DnsQuestion,
  client: Readonly<Pick<Endpoint, 'address' | 'port'>>,
  destination: OriginalDst,
) => DnsVerdict | PromiseLike<DnsVerdict>;

export interface DnsForwarderOptions extends Pick<
  DatagramSocketOptions,
  'transparent' | 'mark' | 'conntrackZones'
> {
  /** Which resolver is asked: `'original'`, the one that the client meant, or this one at port 53 unless given. */
  upstream: 'original' | { address: string; port?: number };
  /**
   * Which names leave this host: a {@link NamePolicy}, asked whether the name may be talked to at any port, or a
   * function. Without one, all.
   */
  policy?: NamePolicy | DnsDecision;
  /** What is answered for a name that a NamePolicy does not allow. Default `'refuse'`. */
  denied?: 'refuse' | 'nxdomain';
  /**
   * Learns from the answers which name is behind an address. One with `synthetic` addresses answers with these in
   * place of the name's own: no resolver is asked for addresses then, and HTTPS and SVCB have none.
   */
  names?: NameTable;
  /** How many milliseconds a resolver may take; then the client is told SERVFAIL. Default 5,000. */
  timeout?: number;
}

/** Where a DNS forwarder listens, by UDP and by TCP. */
export interface DnsListenOptions {
  /** Default 0: any that is free, the same for both. */
  port?: number;
  /** A literal IP address of this host. Default: all of both families. */
  host?: string;
  /** Listen in this network namespace; resolvers are asked from the calling thread's. */
  namespace?: Namespace;
}

const OPTIONS = new Set<string>([
  'upstream',
  'policy',
  'denied',
  'names',
  'timeout',
  'transparent',
  'mark',
  'conntrackZones',
]);

export function checkForwarderOptions(options: unknown): asserts options is DnsForwarderOptions {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  checkOptionNames('createDnsForwarder', Object.keys(options), OPTIONS);
  const { upstream, policy, denied, names, timeout, transparent, mark } = options as DnsForwarderOptions;
  if (upstream !== 'original') {
    if (typeof upstream !== 'object' || upstream === null)
      throw invalidType('options.upstream', "'original' or an address and a port", upstream);
    if (typeof upstream.address !== 'string' || canonicalAddress(upstream.address) === undefined)
      throw invalidType('options.upstream.address', 'a literal IP address', upstream.address);
    if (upstream.port !== undefined) checkInteger('options.upstream.port', upstream.port, 1, 65535);
  }
  if (policy !== undefined && typeof policy !== 'function' && !(policy instanceof NamePolicy))
    throw invalidType('options.policy', 'of type function or an instance of NamePolicy', policy);
  if (denied !== undefined && denied !== 'refuse' && denied !== 'nxdomain')
    throw outOfRange('options.denied', "'refuse' or 'nxdomain'", denied);
  if (names !== undefined && !(names instanceof NameTable))
    throw invalidType('options.names', 'an instance of NameTable', names);
  if (timeout !== undefined) checkInteger('options.timeout', timeout, 1, 600_000);
  if (transparent !== undefined) checkBoolean('options.transparent', transparent);
  if (mark !== undefined) checkInteger('options.mark', mark, 0, 2 ** 32 - 1);
}

/** Throws unless it is a verdict; returns its addresses in canonical form. */
export function readVerdict(
  verdict: unknown,
): Exclude<DnsVerdict, object> | { addresses: string[]; ttl: number } {
  if (verdict === 'forward' || verdict === 'refuse' || verdict === 'nxdomain') return verdict;
  const { addresses, ttl = 60_000 } = (verdict ?? {}) as { addresses?: unknown; ttl?: unknown };
  if (!Array.isArray(addresses))
    throw outOfRange('verdict', "'forward', 'refuse', 'nxdomain' or { addresses, ttl? }", verdict);
  checkInteger('verdict.ttl', ttl, 0, 2 ** 31 - 1);
  const canonical = addresses.map((text: unknown) => {
    const address = typeof text === 'string' ? canonicalAddress(text)?.split('%')[0] : undefined;
    if (address === undefined) throw invalidType('verdict.addresses', 'literal IP addresses', text);
    return address;
  });
  return { addresses: canonical, ttl };
}
