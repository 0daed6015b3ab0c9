import { type Endpoint, isWildcard } from '../address.ts';
import { conntrackActive, conntrackPresent } from '../recover/tracking.ts';
import { type ConntrackEntry, lookupEntry, UDP } from '../recover/conntrack-entry.ts';
import { codedError, systemError } from '../errors.ts';
import { isOwnAddress } from '../recover/own-address.ts';

/**
 * How long a decision about a flow is believed, in milliseconds. It saves a busy flow nearly all of its questions
 * (5 to 15 µs each), and is short beside the time that a datagram can wait in the socket's queue: an entry that is
 * deleted, and its addresses used again for another destination within that time, would be misread.
 */
const BELIEVED_MS = 100;
const MAX_REMEMBERED = 1024;

/** What was decided about a datagram. */
export type DatagramDestination =
  | { readonly kind: 'redirect' | 'tproxy' | 'direct'; readonly destination: Readonly<Endpoint> }
  | { readonly kind: 'unknown'; readonly destination: undefined; readonly cause: NodeJS.ErrnoException };

interface Believed {
  decided: DatagramDestination;
  until: number;
}

const SHARED_ADDRESS = /^(?:22[4-9]|23\d)\.|^255\.255\.255\.255$|^ff/;

/** 224.0.0.0/4, 255.255.255.255, ff00::/8: addresses of all listeners at once, from which nothing can be sent. */
export function isShared(address: string): boolean {
  return SHARED_ADDRESS.test(address);
}

function flowOf(source: Endpoint, local: Endpoint): string {
  return `${source.port} ${source.address} ${local.address}`;
}

function same(a: Endpoint, b: Endpoint): boolean {
  return a.address === b.address && a.port === b.port;
}

/**
 * Decides where the datagrams of one socket were going.
 *
 * IP_ORIGDSTADDR gives the address after NAT: under TPROXY that is the destination, under REDIRECT it is the
 * socket's own address, and only conntrack knows the original.
 */
export class DestinationFinder {
  readonly #bound: Endpoint;
  readonly #zones: readonly number[];
  readonly #believed = new Map<string, Believed>();
  /** Found out once a batch at most: it takes ten times as long as all else. */
  #tracking: { [family in Endpoint['family']]?: boolean } = {};
  #now = 0;
  #lastSource: Endpoint | undefined;
  #lastLocal: Endpoint | undefined;
  #last: Believed | undefined;

  /**
   * @param bound what the socket is bound to
   * @param zones the conntrack zones to look into
   */
  constructor(bound: Endpoint, zones: readonly number[]) {
    this.#bound = bound;
    this.#zones = zones;
  }

  /** To be called after each receive: what is found out from then on is true of all that it brought. */
  startBatch(): void {
    this.#now = performance.now();
    this.#tracking = {};
  }

  /** What is known without asking: undefined if decide() must be asked. */
  recall(source: Endpoint, local: Readonly<Endpoint> | undefined): DatagramDestination | undefined {
    if (local === undefined) return noControlMessage();
    // Datagrams of one flow come in bursts, and the same address is the same object (EndpointCache).
    if (source !== this.#lastSource || local !== this.#lastLocal) {
      this.#lastSource = source;
      this.#lastLocal = local;
      this.#last = this.#find(source, local);
    }
    return this.#last !== undefined && this.#now < this.#last.until ? this.#last.decided : undefined;
  }

  /** Asks the kernel about the flow of the last recall(), whose addresses facts.peer and facts.local hold too. */
  decide(source: Endpoint, local: Readonly<Endpoint>): DatagramDestination {
    const entry = lookupEntry(UDP, this.#zones);
    const decided = this.#judge(entry, source, local);
    const seconds = typeof entry === 'object' ? entry.seconds : Infinity;
    this.#last = { decided, until: this.#now + Math.min(BELIEVED_MS, seconds * 1000) };
    if (this.#believed.size >= MAX_REMEMBERED) this.#believed.clear();
    this.#believed.set(flowOf(source, local), this.#last);
    return decided;
  }

  #find(source: Endpoint, local: Readonly<Endpoint>): Believed | undefined {
    // NAT to this socket would have made it this socket's port.
    if (local.port === this.#bound.port) return this.#believed.get(flowOf(source, local));
    return { decided: { kind: 'tproxy', destination: local }, until: Infinity };
  }

  #judge(entry: ConntrackEntry | number, source: Endpoint, local: Readonly<Endpoint>): DatagramDestination {
    if (typeof entry === 'object') {
      const { original } = entry;
      // An entry that names the source is one that this socket began: what comes in is the answer, and untouched.
      if (!same(original, local) && !same(original, source)) {
        return { kind: 'redirect', destination: Object.freeze(original) };
      }
    }
    if (!this.#dialable(local)) return { kind: 'tproxy', destination: local };
    // Without an entry nobody can have redirected it, provided that entries are made at all.
    if (typeof entry === 'object' || this.#untracked(local.family)) {
      return { kind: 'direct', destination: local };
    }
    const cause = systemError(entry, { syscall: 'netlink', option: 'IPCTNL_MSG_CT_GET' });
    return { kind: 'unknown', destination: undefined, cause };
  }

  /** Can a client have sent to this address and have reached this socket by that? */
  #dialable(local: Endpoint): boolean {
    if (!isWildcard(this.#bound.address)) return local.address === this.#bound.address;
    return isOwnAddress() || isShared(local.address);
  }

  #untracked(family: Endpoint['family']): boolean {
    const tracking = (this.#tracking[family] ??= conntrackActive(family === 'IPv4' ? 4 : 6) !== false);
    return !tracking || !conntrackPresent();
  }
}

let missing: DatagramDestination | undefined;

function noControlMessage(): DatagramDestination {
  return (missing ??= {
    kind: 'unknown',
    destination: undefined,
    cause: codedError('ERR_NO_DESTINATION', 'The datagram came without the control message IP_ORIGDSTADDR'),
  });
}
