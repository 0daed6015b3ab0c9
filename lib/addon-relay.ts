// What the addon exports for relays and for servers that relay, as types.

declare const isRoute: unique symbol;

/** A route in the addon's memory, until nobody refers to it any more (src/relay/route.h). */
export interface NativeRoute {
  readonly [isRoute]: true;
}

/**
 * Gets a connection's token, which goes to relayDial, relayRefuse or relayTake; what readFacts answers and fills; how
 * many first bytes there are in `firstBytes`, about which the answer of parseFirstBytes is, or -1: they were not looked
 * at; the PROXY protocol's header that was taken off; and, where records are wanted, how many milliseconds ago it was
 * accepted. Token -1 says that the closed listener has no relay left.
 */
export type OnUndecided = (
  token: number,
  status: number,
  origin: number,
  size: number,
  fd: number,
  header: Uint8Array | undefined,
  age: number,
) => void;

/** A status is 0 or a negative errno. */
export interface RelayBinding {
  /**
   * Once. `onClosed` is called with how many ids of closed relays stand in the memory that is returned, `onGone` with
   * the token of a watched connection that is gone.
   */
  relayStart(onClosed: (count: number) => void, onGone: (token: number) => void): ArrayBuffer | number;
  /** The next relays' slots; laid out as struct RelaySlot of src/relay/relay.h. */
  relaySlab(): ArrayBuffer | number;
  relayAdd(
    id: number,
    clientFd: number,
    upstreamFd: number,
    limits: Uint32Array,
    toUpstream: Uint8Array | undefined,
    toClient: Uint8Array | undefined,
    thread: number,
  ): number;
  /** Dials for the client. What failed of that, if it did, is in the slot's step. */
  relayConnect(
    id: number,
    clientFd: number,
    address: string,
    port: number,
    limits: Uint32Array,
    toUpstream: Uint8Array | undefined,
    thread: number,
    program: number,
    path: number,
    sourceAddress: string | null,
    sourcePort: number,
    portFallback: boolean,
    transparent: boolean,
    freebind: boolean,
    mark: number | null,
    device: string | null,
    namespace: number,
  ): number;
  relayDestroy(id: number, thread: number): number;
  relayRef(on: boolean): number;
  /**
   * `headersFrom`: struct ExpectedHeaders (lib/relay/headers.ts). `source`: 0 this host's address,
   * 1 the client's, 2 the client's with its port. `fd` other than -1: this bound socket. The bound address is left in the role `scratch`.
   */
  relayListen(
    address: string | null,
    port: number,
    fd: number,
    backlog: number,
    transparent: boolean,
    mark: number | null,
    source: 0 | 1 | 2,
    portFallback: boolean,
    limits: Uint32Array,
    onUndecided: OnUndecided,
    firstBytes: Uint8Array | undefined,
    inspectPorts: Uint16Array | undefined,
    inspectTimeoutMs: number,
    /** Descriptors, or -1: this thread's. */
    listenIn: number,
    dialIn: number,
    most: Uint32Array,
    /** Will relayListenToo follow? */
    shared: boolean,
    reusePort: boolean,
    headersFrom: Uint8Array | undefined,
    headerTimeoutMs: number,
  ): [listener: number, stats: ArrayBuffer] | [status: number, step: number];
  /** Another thread accepts from the same socket. */
  relayListenToo(
    first: number,
    thread: number,
    onUndecided: OnUndecided,
  ): [listener: number, stats: ArrayBuffer] | [status: number, step: number];
  /** `route`: another way than to that address. */
  relayDial(
    id: number,
    token: number,
    address: string | null,
    port: number,
    thread: number,
    route: NativeRoute | undefined,
  ): number;
  /**
   * `hops`: address, port, which of the requests, and milliseconds for connect(2) or 0, of each. `messages`: greeting,
   * password, requests. `header`: the PROXY protocol's version, or 0. Or a negative errno.
   */
  relayRoute(
    hops: (string | number)[],
    protocol: 0 | 1 | 2,
    messages: Uint8Array[],
    header: 0 | 1 | 2,
    address: string | null,
    port: number,
    authority: Uint8Array,
  ): NativeRoute | number;
  /** Of a relay that relayStart's `onClosed` has just told of: three numbers of each struct HopFailure. */
  relayHopFailures(id: number): number[];
  relayRefuse(token: number): number;
  /** The fd, or a negative errno. */
  relayTake(token: number): number;
  /** From here on relayStart's `onGone` is called when the undecided connection is reset or broken. */
  relayWatch(token: number): number;
  relayUnlisten(listener: number, destroy: boolean): number;
  /** Of a listener that has not been closed. */
  relayFd(listener: number): number;
  /** Verdict 1: relay, 2: reset. `protocol`: as parseFirstBytes says it, -1: not looked at. */
  relaySetVerdict(
    listener: number,
    address: string,
    port: number,
    verdict: 1 | 2,
    ttlMs: number,
    tproxy: boolean,
    protocol: number,
    ech: boolean,
    name: string | null,
    route: NativeRoute | undefined,
  ): number;
  /** Memory in which the numbers of records are, before each call of `onRecords` (src/glue/records_glue.cc). */
  relayRecords(
    listener: number,
    onRecords: ((count: number, text: string) => void) | null,
  ): ArrayBuffer | number;
  /** The bounds of the histograms in a listener's stats, in microseconds. */
  relayBounds(): [dial: number[], duration: number[]];
  /** Those of the address, those of the name, or all. */
  relayRevokeVerdicts(listener: number, address: string | null, port: number, name: string | null): number;
}
