// What the addon exports, as types.
import type { RelayBinding } from './addon-relay.ts';

export type { NativeRoute } from './addon-relay.ts';

/** A negative errno, what has failed, and the end of the verifier's log. */
export type BpfFailure = [status: number, step: string, log: string];

/** The addon's exports (src/glue/addon.cc). A status is 0 or a negative errno. */
export interface Binding extends RelayBinding {
  /** Addresses by role (lib/recover/kernel-answer.ts) and statuses; laid out as struct KernelAnswer of src/glue/kernel_answer.h. */
  readonly kernelAnswer: ArrayBuffer;
  /** Fills the role `scratch`. */
  getOriginalDst(fd: number): number;
  /** Fills all but `scratch`; given the port of the listener that has accepted it, `origin` too. */
  readFacts(fd: number, listenerPort?: number): number;
  /** Of the accepted MPTCP socket that readFacts was about: what `entryStatus` says of others. */
  checkMptcpEntry(fd: number): number;
  /** Where that is EADDRINUSE, by ctnetlink: 0 if the entry is the connection's own nevertheless, or a negative errno. */
  confirmEntry(fd: number): number;
  addressText(role: number): string;
  /** Of what readFacts has found out: does C++ know where that was going, without TypeScript? Then it is in `scratch`. */
  certainDestination(listenerPort: number, localIsKnown: boolean): boolean;
  /** `where`, here and below: a socket or a descriptor of the network namespace that is meant; -1: this thread's. */
  conntrackActive(family: 4 | 6, where: number): number;
  /** The end of what a `keep` has begun: the socket by which that namespace is asked keeps it. */
  conntrackForget(where: number): void;
  /**
   * The seconds that the entry of the flow between two addresses has left, its destination in a third role.
   * `keep`: more will be asked in that namespace, until conntrackForget().
   */
  conntrackLookup(
    protocol: number,
    zone: number,
    local: number,
    peer: number,
    original: number,
    where: number,
    keep: boolean,
  ): number;
  /** Is a client seen at its own address by whom it has dialled: 1, 0 where NAT has given it another, or a negative errno. */
  conntrackSource(
    where: number,
    clientAddress: string,
    clientPort: number,
    dialledAddress: string,
    dialledPort: number,
    protocol: number,
  ): number;
  /** 1, 0 or a negative errno. */
  isInterfaceAddress(role: number, where: number): number;
  setTransparent(fd: number, on: boolean): number;
  getTransparent(fd: number): number;
  setFreebind(fd: number, on: boolean): number;
  setMark(fd: number, mark: number): number;
  setBindAddressNoPort(fd: number, on: boolean): number;
  /** A new fd, or `over` when that was given and is the new socket now, or what failed (lib/dial/dial-error.ts). */
  openDialSocket(
    family: 4 | 6,
    sourceAddress: string | null,
    sourcePort: number,
    transparent: boolean,
    freebind: boolean,
    mark: number | null,
    device: string | null,
    over: number,
    namespace: number,
  ): number | [status: number, step: number];
  /** A bound TCP socket, or what failed (lib/dial/dial-error.ts). */
  bindListener(
    address: string | null,
    port: number,
    ipv6Only: boolean,
    namespace: number,
  ): number | [status: number, step: number];
  /** The one spelling of an address, or a negative errno: EINVAL, or ENODEV for an interface that does not exist. */
  canonicalAddress(address: string): string | number;
  /** 1, 0 or a negative errno. */
  isLocalDestination(address: string, mark: number, where: number): number;
  /** By the number of a network namespace. */
  claimPort(program: number, namespace: number, port: number): number;
  releasePort(program: number, namespace: number, port: number): number;
  /** 1, 0 or a negative errno. */
  portClaimedElsewhere(program: number, namespace: number, port: number): number;
  noteDial(
    program: number,
    fd: number,
    address: string,
    port: number,
    path: number,
    transparent: boolean,
  ): void;
  closeFd(fd: number): void;
  /** The answer of parseFirstBytes; laid out as struct FirstBytes of src/names/first_bytes.h. */
  readonly firstBytes: ArrayBuffer;
  /** 0: the answer stands; else how many bytes there must be before it is worth asking again. */
  parseFirstBytes(bytes: Uint8Array): number;
  /** Another fd of the same socket, or a negative errno. */
  duplicateFd(fd: number): number;
  /** `getsockopt(SO_ERROR)`: the errno that the connection has met and nobody has been told of, or 0; forgotten then. */
  takeError(fd: number): number;
  /**
   * A PROXY protocol header at the beginning of the bytes (src/socket/proxy_header.h). A number: how many bytes there
   * must be at least, or a negative errno. Without addresses: of version 1's UNKNOWN, version 2's LOCAL and UNSPEC.
   */
  parseProxyHeader(
    bytes: Uint8Array,
  ):
    | number
    | [
        length: number,
        version: 1 | 2,
        tlvAt: number,
        clientAddress?: string,
        clientPort?: number,
        destinationAddress?: string,
        destinationPort?: number,
      ];
  socketKind(fd: number): number | [domain: number, type: number, protocol: number];
  /** A descriptor of a new network namespace, or what failed (lib/namespace/create.ts). */
  createNamespace(ipv4Only: boolean): number | [status: number, step: number];
  /** A descriptor of the socket's network namespace, or a negative errno. */
  namespaceOfSocket(fd: number): number;
  /** A descriptor of the user namespace that owns that network namespace, or a negative errno. */
  namespaceOwner(net: number): number;
  /**
   * In the namespace of a descriptor or socket (-1: this thread's) the TCP socket whose own end is the first address, or
   * the UDP socket that may have sent from there to the other, EEXIST: one of several; or a negative errno. Inode 0:
   * nobody has it open. The state is that of `tcp_states.h`.
   */
  socketAt(
    where: number,
    localAddress: string,
    localPort: number,
    remoteAddress: string,
    remotePort: number,
    udp: boolean,
  ): number | [inode: number, cookie: bigint, state: number];
  /** Which network namespace a socket or a descriptor is of, or this thread's for -1; or a negative errno. */
  namespaceNumber(where: number): number;
  connectPrograms(cgroup: number, family: 4 | 6): number;
  /** The numbers of the BPF programs that are attached to a cgroup at a place (enum bpf_attach_type), with `effective` those of the cgroups above too; or a negative errno. */
  cgroupPrograms(cgroup: number, place: number, effective: boolean): number[] | number;
  /** By its number; or a negative errno. */
  programName(program: number): string | number;
  /** SO_ATTACH_BPF; -1: no filter any more. 1: all that is read from now on has passed it, 0: what waits has not; or a negative errno. */
  filterSocket(fd: number, program: number): number;
  /** The descriptor of the filter for UDP sockets at a port that a capture leads to; or -1. */
  captureFilter(port: number): number;
  /** A prefix is made this host's, or not any more: 0 or a negative errno. */
  localRoute(address: string, prefixLength: number, add: boolean): number;
  /**
   * `config`: struct CaptureConfig of src/ebpf/programs/capture.h. `ports`: the flows of each of 65,536, or null. The
   * prefixes are laid out as in src/ebpf/capture.h. The id of the capture, or what has failed and the verifier's log.
   */
  captureOpen(
    cgroup: number,
    config: Uint8Array,
    ports: BigUint64Array | null,
    prefixes4: Uint8Array,
    prefixes6: Uint8Array,
    destinations: number,
    first: number,
    pin: string | null,
    token: string | null,
  ): number | BpfFailure;
  /** captured, exempt, refused, exhausted, lost, aliases; undefined for a closed one. */
  captureCounts(capture: number): [number, number, number, number, number, number] | undefined;
  /** Nothing is captured from now on; what was can still be told until it is closed. */
  captureDetach(capture: number, unpin: boolean): number;
  captureClose(capture: number): number;
  /** Where a datagram was going by its local address: 1, 0 if that is no alias, or a negative errno. */
  captureDatagram(local: number, destination: number): number;
  /** The sockets are fds or -1. */
  listenerOpen(
    ports: Uint16Array,
    prefixes4: Uint8Array,
    prefixes6: Uint8Array,
    tcp4: number,
    tcp6: number,
    udp4: number,
    udp6: number,
    token: string | null,
  ): number | BpfFailure;
  listenerCount(listener: number): number | undefined;
  listenerClose(listener: number): number;
  /** A datagram to a Unix socket: a path, or an abstract name after `@`. 0 or a negative errno. */
  notifyService(socket: string, text: string): number;
  /** flock(2), exclusive, without waiting. */
  lockFile(fd: number): number;
  /** `onReady` gets the slot of a socket that can be read: see `repeats`. `onNode`: the event loop is libuv's. */
  readonly DatagramHub: new (onReady: (slot: number) => void, onNode: boolean) => NativeDatagramHub;
  /** In the namespace that `where` is of; see conntrackActive. */
  readonly DatagramRefusals: new (where: number) => NativeDatagramRefusals;
}

/** UDP sockets by slot number (src/glue/datagram_glue.cc). */
export interface NativeDatagramHub {
  /** 0 or the negative errno with which the constructor failed. */
  readonly status: number;
  /** Is a socket that can be read called ready at each turn of the event loop, until `rest`? Else once for each `arm`. */
  readonly repeats: boolean;
  /** The memory that receive and open fill; laid out as 65 times struct Datagram of src/datagram/datagram.h. */
  readonly records: ArrayBuffer;
  open(
    address: string,
    port: number,
    transparent: boolean,
    ipv6Only: boolean,
    reuseAddress: boolean,
    mark: number,
    receiveBuffer: number,
    limit: number,
    namespace: number,
    given: number,
    gro: boolean,
  ): number;
  /** Of the socket, whose it stays. */
  fd(slot: number): number;
  receive(slot: number): number;
  copy(to: Uint8Array): number;
  arm(slot: number): number;
  rest(slot: number): void;
  /** `segmentSize`: the length of each datagram, 0 for one alone. `alias`: the source is an eBPF capture's alias. */
  send(
    slot: number,
    data: Uint8Array,
    address: string,
    port: number,
    source: string | undefined,
    alias: boolean,
    segmentSize: number,
  ): number;
  drops(slot: number): number;
  /** Certain that no flow is tracked in the socket's namespace? False also where that cannot be found out. */
  untracked(slot: number, family: 4 | 6): boolean;
  /** 0 or a negative errno: from now on deletions() tells which conntrack entries of flows to that port go. */
  watch(slot: number, port: number): number;
  /** How many of them are in the last records; as many as fit there: there may be more. `ENOBUFS`: some were missed. */
  deletions(slot: number): number;
  close(slot: number): number;
  ref(on: boolean): void;
}

/** ICMP sockets of one namespace (src/datagram/refusal.h). */
export interface NativeDatagramRefusals {
  /** 0 or the negative errno with which the constructor failed. */
  readonly status: number;
  /** Port unreachable, for a datagram of so many bytes: 0 or a negative errno. */
  send(
    clientAddress: string,
    clientPort: number,
    destinationAddress: string,
    destinationPort: number,
    size: number,
  ): number;
  close(): void;
}
