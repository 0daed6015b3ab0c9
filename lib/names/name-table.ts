// NameTable: which name a client had asked for, before it came to an address.
import { canonicalAddress, type Endpoint } from '../address.ts';
import { checkBoolean, checkInteger, checkOptionNames, invalidType } from '../arguments.ts';
import { answerAddresses, type NamedAddresses } from './answer-addresses.ts';
import { SyntheticAddresses } from './synthetic.ts';

export interface NameTableOptions {
  /**
   * Does a name hold for the client alone that has asked it? Default true. `false` where one client has several
   * addresses: a host whose own programs ask from 127.0.0.1 and connect from another address.
   */
  perClient?: boolean;
  /** For how many milliseconds a name holds at least, whatever its TTL: programs keep addresses. Default 300,000. */
  minTtl?: number;
  /** For how many at most. Default 86,400,000, a day. */
  maxTtl?: number;
  /** How many addresses are kept in all; the client that has asked longest ago loses first. Default 65,536. */
  maxAddresses?: number;
  /** How many of one client; those that it has asked longest ago go first. Default 4,096. */
  maxPerClient?: number;
  /** Addresses that stand for names: of these the name is certain, whoever asks. */
  synthetic?: SyntheticAddresses;
}

/** How many names an address has for one client at most: those that were learnt last. */
const NAMES = 32;
const EVERYBODY = '';
const OPTIONS = new Set<string>([
  'perClient',
  'minTtl',
  'maxTtl',
  'maxAddresses',
  'maxPerClient',
  'synthetic',
]);

/** When each name of an address ends, by address; what was learnt last stands last. */
type Learnt = Map<string, Map<string, number>>;

/**
 * Which name is behind an address, from the DNS answers that clients were given: a name for every protocol that says
 * none itself. {@link createDnsForwarder} fills it.
 *
 * A name is what the client says, as an SNI is: that it has asked for a name, and was told this address, does not
 * keep it from meaning another name that lives there too.
 */
export class NameTable {
  readonly #clients = new Map<string, Learnt>();
  /** The addresses that stand for names, if it has any. */
  readonly synthetic: SyntheticAddresses | undefined;
  readonly #perClient: boolean;
  readonly #minTtl: number;
  readonly #maxTtl: number;
  readonly #maxAddresses: number;
  readonly #maxPerClient: number;
  #size = 0;

  /** @throws argument errors */
  constructor(options: NameTableOptions = {}) {
    checkOptionNames('NameTable', Object.keys(options), OPTIONS);
    const { perClient = true, minTtl = 300_000, maxTtl = 86_400_000, synthetic } = options;
    const { maxAddresses = 65_536, maxPerClient = 4096 } = options;
    checkBoolean('options.perClient', perClient);
    checkInteger('options.minTtl', minTtl, 0, 2 ** 31 - 1);
    checkInteger('options.maxTtl', maxTtl, minTtl, 2 ** 31 - 1);
    checkInteger('options.maxAddresses', maxAddresses, 1, 2 ** 24);
    checkInteger('options.maxPerClient', maxPerClient, 1, 2 ** 24);
    if (synthetic !== undefined && !(synthetic instanceof SyntheticAddresses))
      throw invalidType('options.synthetic', 'an instance of SyntheticAddresses', synthetic);
    this.#perClient = perClient;
    this.#minTtl = minTtl;
    this.#maxTtl = maxTtl;
    this.#maxAddresses = maxAddresses;
    this.#maxPerClient = maxPerClient;
    this.synthetic = synthetic;
  }

  /** How many addresses are known, those of all clients counted; what has ended counts until it is looked at. */
  get size(): number {
    return this.#size;
  }

  /**
   * Takes note of a DNS answer (RFC 1035) that a client is given: A, AAAA, CNAME, SVCB and HTTPS with their address
   * hints. What cannot be read teaches nothing.
   *
   * @param client the client's address
   */
  learn(message: Buffer, client: string): void {
    const found = answerAddresses(message);
    if (found) this.add(found, client);
  }

  /** The same for what is known already. */
  add({ name, addresses }: NamedAddresses, client: string): void {
    const key = this.#keyOf(client);
    for (const { address, ttl } of addresses)
      this.#put(key, address, name, Date.now() + Math.min(Math.max(ttl, this.#minTtl), this.#maxTtl));
  }

  /**
   * The name that the client has asked for and was given this address. Undefined when it has asked for none, or for
   * several that live there: which of them it means is not known, see {@link all}.
   */
  of(destination: Pick<Endpoint, 'address'>, client: string | Pick<Endpoint, 'address'>): string | undefined {
    const [name, another] = this.all(destination, client);
    return another === undefined ? name : undefined;
  }

  /** All names that the client has asked for and was given this address, the last one first. */
  all(destination: Pick<Endpoint, 'address'>, client: string | Pick<Endpoint, 'address'>): string[] {
    const address = canonicalAddress(destination.address);
    if (address === undefined)
      throw invalidType('destination.address', 'a literal IP address', destination.address);
    const certain = this.synthetic?.nameOf(address);
    if (certain !== undefined) return [certain];
    const key = this.#keyOf(typeof client === 'string' ? client : client.address);
    const learnt = this.#clients.get(key);
    const names = learnt?.get(address);
    if (!learnt || !names) return [];
    const now = Date.now();
    for (const [name, until] of names) if (until <= now) names.delete(name);
    if (names.size === 0) this.#forget(key, learnt, address);
    return [...names.keys()].toReversed();
  }

  #keyOf(client: string): string {
    if (!this.#perClient) return EVERYBODY;
    const address = canonicalAddress(client);
    if (address === undefined) throw invalidType('client', 'a literal IP address', client);
    return address;
  }

  #put(key: string, address: string, name: string, until: number): void {
    const learnt: Learnt = this.#clients.get(key) ?? new Map<string, Map<string, number>>();
    // Behind all others, as is the client.
    this.#clients.delete(key);
    this.#clients.set(key, learnt);
    const names = learnt.get(address) ?? new Map<string, number>();
    if (!learnt.delete(address)) this.#size++;
    learnt.set(address, names);
    const before = names.get(name) ?? 0;
    names.delete(name);
    names.set(name, Math.max(before, until));
    if (names.size > NAMES) names.delete(names.keys().next().value!);
    if (learnt.size > this.#maxPerClient) this.#forgetFirst(key, learnt);
    if (this.#size > this.#maxAddresses) this.#forgetFirst(...this.#clients.entries().next().value!);
  }

  #forgetFirst(key: string, learnt: Learnt): void {
    this.#forget(key, learnt, learnt.keys().next().value!);
  }

  #forget(key: string, learnt: Learnt, address: string): void {
    learnt.delete(address);
    this.#size--;
    if (learnt.size === 0) this.#clients.delete(key);
  }
}
