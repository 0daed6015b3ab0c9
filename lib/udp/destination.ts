// Where a datagram was going.
import { constants } from 'node:os';
import { type Endpoint, isWildcard } from '../address.ts';
import { binding } from '../binding.ts';
import { unknownAlias } from '../recover/alias.ts';
import {
  conntrackActive,
  conntrackPresent,
  conntrackSeen,
  conntrackSeenLately,
} from '../recover/tracking.ts';
import { type ConntrackEntry, lookupEntry } from '../recover/conntrack-entry.ts';
import { codedError, systemError } from '../errors.ts';
import { endpointAt, Role } from '../recover/kernel-answer.ts';
import { isOwnAddress } from '../recover/own-address.ts';
import type { Place } from '../recover/place.ts';
import { DeletedFlows, type DeletionSource, flowOf } from './deleted-flows.ts';

const { EACCES, ENOENT, EOPNOTSUPP } = constants.errno;

/**
 * How long a decision about a flow is believed, in milliseconds. It saves a busy flow nearly all of its questions (5 µs
 * for each zone). It ends at once when the entry is deleted (DeletedFlows); this is for entries that are older than
 * the socket, about which the kernel may not tell. Only what an entry said is believed: that there is none says
 * nothing about the next datagram.
 */
const BELIEVED_MS = 100;
/** Of a reply socket's address: whose it is changes the kind, not the destination. */
const FOREIGN_MS = 1000;
const MAX_REMEMBERED = 1024;

/** What was decided about a datagram. */
export type DatagramDestination =
  | { readonly kind: 'redirect' | 'tproxy' | 'ebpf' | 'direct'; readonly destination: Readonly<Endpoint> }
  | { readonly kind: 'unknown'; readonly destination: undefined; readonly cause: NodeJS.ErrnoException };

/** What a finder asks of its socket: DatagramPort. */
interface Source extends DeletionSource {
  /** Can nobody but captured programs have sent what came to an alias? */
  readonly isFiltered: boolean;
  /** Is it certain that there is no conntrack entry at all? */
  untracked(family: 4 | 6): boolean;
}

interface Believed {
  decided: DatagramDestination;
  until: number;
}

const SHARED_ADDRESS = /^(?:22[4-9]|23\d)\.|^255\.255\.255\.255$|^ff/;

/** 224.0.0.0/4, 255.255.255.255, ff00::/8: addresses of all listeners at once, from which nothing can be sent. */
export function isShared(address: string): boolean {
  return SHARED_ADDRESS.test(address);
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
  readonly #reply: boolean;
  readonly #place: Place;
  readonly #source: Source;
  readonly #deleted: DeletedFlows;
  readonly #believed = new Map<string, Believed>();
  /** Found out once a batch at most: it takes twice as long as all else. */
  #tracking: { [family in Endpoint['family']]?: boolean } = {};
  /** Has what was deleted before the batch was received been learnt? */
  #learnt = false;
  #now = 0;
  #lastSource: Endpoint | undefined;
  #lastLocal: Endpoint | undefined;
  #last: Believed | undefined;

  /**
   * @param bound what the socket is bound to
   * @param zones the conntrack zones to look into
   * @param reply is it bound to an address that an answer is to leave from? That is mostly a foreign one
   * @param source the socket
   * @param place the socket's network namespace
   */
  constructor(bound: Endpoint, zones: readonly number[], reply: boolean, source: Source, place: Place) {
    this.#source = source;
    this.#place = place;
    this.#bound = bound;
    this.#zones = zones;
    this.#reply = reply;
    this.#deleted = new DeletedFlows(source);
  }

  /** Begins to listen for deleted entries before it is asked about the first datagram. */
  watch(): void {
    this.#deleted.watch();
  }

  /** To be called before each receive: what has been deleted by now is no concern of the batches behind the next. */
  beforeBatch(): void {
    this.#deleted.learn(this.#forget);
  }

  /**
   * To be called after each receive: what is found out from then on is true of all that it brought.
   *
   * @param emptied it took all that there was
   */
  startBatch(emptied: boolean): void {
    this.#now = performance.now();
    this.#tracking = {};
    this.#deleted.startBatch(emptied);
    this.#learnt = false;
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
    if (this.#last === undefined || this.#now > this.#last.until) return undefined;
    if (this.#learnt || this.#last.until === Infinity) return this.#last.decided;
    // An entry's deletion is no concern of who believes in none.
    this.#learn();
    return this.recall(source, local);
  }

  /** Asks the kernel about the flow of the last recall(), whose addresses are in the roles `peer` and `local` too. */
  decide(source: Endpoint, local: Readonly<Endpoint>): DatagramDestination {
    // A datagram for one of the addresses that this program has answered from, led to the socket that answered: by
    // a TPROXY rule's `socket` match, or because the kernel prefers it. Nothing has rewritten it: NAT leads to where
    // somebody listens.
    if (this.#reply && isOwnAddress(Role.local, this.#place) === false) {
      return this.#believe({ kind: 'tproxy', destination: local }, this.#now + FOREIGN_MS);
    }
    // Nor has anybody rewritten what came to an alias of an eBPF capture. Of what it is one is asked once a batch.
    const captured = binding().captureDatagram(Role.local, Role.scratch);
    if (captured > 0 && !this.#source.isFiltered) return { ...unknownAlias(-EACCES), destination: undefined };
    if (captured > 0) {
      const destination = Object.freeze(endpointAt(Role.scratch));
      return this.#believe({ kind: 'ebpf', destination }, this.#now);
    }
    if (captured < 0) return { ...unknownAlias(captured), destination: undefined };
    const watching = this.#deleted.watch();
    const entry = this.#lookup(local.family === 'IPv4' ? 4 : 6);
    const flow = flowOf(source, local);
    if (typeof entry === 'object') {
      conntrackSeen(local.family === 'IPv4' ? 4 : 6, this.#place);
      if (!watching) return notWatched();
      if (this.#deleted.has(flow)) return anotherEntry();
    }
    // Of an entry that this socket began, the kernel's news is about the client's port, and does not come here.
    const told = typeof entry === 'object' && !same(entry.original, source);
    const lasts = told ? Math.min(BELIEVED_MS, entry.seconds * 1000) : 0;
    const decided = this.#judge(entry, source, local);
    const believed = this.#believe(decided, this.#now + lasts);
    if (lasts > 0) {
      /* c8 ignore next -- so many flows in a tenth of a second */
      if (this.#believed.size >= MAX_REMEMBERED) this.#believed.clear();
      this.#believed.set(flow, this.#last!);
    }
    return believed;
  }

  #believe(decided: DatagramDestination, until: number): DatagramDestination {
    this.#last = { decided, until };
    return decided;
  }

  /** The entry of the datagram in the roles, and then what has been deleted by now. */
  #lookup(family: 4 | 6): ConntrackEntry | number {
    // Where there is no entry at all there is none of this flow, in no zone, at less than half the cost of asking.
    const none = !conntrackSeenLately(family, this.#place) && this.#source.untracked(family);
    const entry = none ? -ENOENT : lookupEntry(this.#zones, Role.local, Role.peer, this.#place);
    if (none) this.#tracking[family === 4 ? 'IPv4' : 'IPv6'] = false;
    this.#learn();
    return entry;
  }

  #learn(): void {
    this.#learnt = true;
    this.#deleted.learn(this.#forget);
  }

  readonly #forget = (flow?: string): void => {
    /* c8 ignore next -- more deletions at once than the socket's buffer has room for */
    if (flow === undefined) this.#believed.clear();
    else this.#believed.delete(flow);
    this.#lastSource = undefined;
  };

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
    const dialable = this.#dialable(local);
    /* c8 ignore next -- see there */
    if (typeof dialable === 'number') return elsewhere(dialable);
    if (!dialable) return { kind: 'tproxy', destination: local };
    if (typeof entry === 'object') return { kind: 'direct', destination: local };
    if (this.#deleted.has(flowOf(source, local))) return anotherEntry();
    // Without an entry nobody can have redirected it, provided that entries are made at all.
    return this.#untracked(local.family) ? { kind: 'direct', destination: local } : unknown(entry);
  }

  /** Can a client have sent to this address and have reached this socket by that? A negative errno: not to be found out. */
  #dialable(local: Endpoint): boolean | number {
    if (!isWildcard(this.#bound.address)) return local.address === this.#bound.address;
    return isShared(local.address) || isOwnAddress(Role.local, this.#place);
  }

  #untracked(family: Endpoint['family']): boolean {
    const tracking = (this.#tracking[family] ??=
      conntrackActive(family === 'IPv4' ? 4 : 6, this.#place) !== false);
    return !tracking || !conntrackPresent();
  }
}

function unknown(errno: number, hint?: string): DatagramDestination {
  const context = { syscall: 'netlink', option: 'IPCTNL_MSG_CT_GET' };
  const cause = systemError(errno, hint === undefined ? context : { ...context, hint });
  return { kind: 'unknown', destination: undefined, cause };
}

/* c8 ignore next 3 -- only where the right to enter was given up after the socket was opened there */
function elsewhere(errno: number): DatagramDestination {
  return { kind: 'unknown', destination: undefined, cause: systemError(errno, { syscall: 'setns' }) };
}

function anotherEntry(): DatagramDestination {
  return unknown(
    -ENOENT,
    'the entry that this datagram came through may have been deleted while it waited to be read: one that is there now may be a later one',
  );
}

function notWatched(): DatagramDestination {
  return unknown(
    -EOPNOTSUPP,
    'the kernel does not tell when entries are deleted, so that they may be other datagrams’: set net.netfilter.nf_conntrack_events to 1 or 2',
  );
}

let missing: DatagramDestination | undefined;

function noControlMessage(): DatagramDestination {
  return (missing ??= {
    kind: 'unknown',
    destination: undefined,
    cause: codedError(
      'ERR_UNKNOWN_DESTINATION',
      'The datagram came without the control message IP_ORIGDSTADDR',
    ),
  });
}
