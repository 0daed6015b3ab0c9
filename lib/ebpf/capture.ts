// attachCapture(): what the programs of a cgroup dial comes to a port of this process, without conntrack.
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { constants } from 'node:os';
import { checkInteger, checkMembers, checkOptionNames, invalidType, outOfRange } from '../arguments.ts';
import { binding } from '../binding.ts';
import { codedError } from '../errors.ts';
import { crypto } from '../node/on-demand.ts';
import type { ExemptRules, Family, FlowMatch, Protocol } from '../rules/config/config.ts';
import { readMarks } from '../rules/config/marks.ts';
import { filterPorts } from '../udp/datagram-port.ts';
import { attachedPrograms, describePrograms, isInTheWay } from './attached.ts';
import { cgroupDirectory, cgroupIdentity, cgroupMount, isInside } from './cgroup.ts';
import { aliasPrefix, type CaptureSettings, MOST_EXEMPTIONS, packConfig } from './config.ts';
import { hasConnections } from './connections.ts';
import { attachError } from './failure.ts';
import { compileFlows } from './flows.ts';

const { EEXIST } = constants.errno;

/** How often it is looked whether the last connection of a capture that was closed is over, in milliseconds. */
const POLL_MS = 250;

/** Which connections of which programs are captured. */
export interface CaptureOptions {
  /**
   * The cgroup (v2) whose programs are captured: its path below the mount point, `user.slice/app`, or the whole path.
   * The kernel goes by the cgroup that a program was in when it opened the socket.
   */
  cgroup: string;
  /** The port of this process' server, which listens on all addresses, those of IPv6 included. */
  port: number;
  /** Default both. */
  families?: readonly Family[];
  /** Default `['tcp']`. Of UDP, what is sent with and without connect(2), DNS included. */
  protocols?: readonly Protocol[];
  /** What is captured: as in the configuration of rules, without `sources` and `interfaces`. Default: everything. */
  include?: FlowMatch | readonly FlowMatch[];
  /** What is left alone though it is included. Default: nothing. Loopback and multicast addresses always are. */
  exclude?: FlowMatch | readonly FlowMatch[];
  /** The proxy's own traffic, where the proxy is in the cgroup itself; up to 8 of each. Default: nothing. */
  exempt?: Pick<ExemptRules, 'uids' | 'marks' | 'cgroups'>;
  /**
   * How many destinations are remembered at a time: a power of two from 16 to 65,536. Default 16,384. A connection that
   * is accepted after half as many further destinations were dialled may be `unknown`.
   */
  destinations?: number;
  /**
   * A directory below a mounted bpffs, which is made: the capture goes on without this process, and programs are refused
   * (ECONNREFUSED) until somebody attaches with the same pin. Default: the end of the process ends the capture.
   */
  pin?: string;
  /**
   * A bpffs of this user namespace to which programs, maps and attachments have been delegated (`delegate_cmds` and the
   * like, mount(8)): the rights are taken from there, by a BPF token, and CAP_BPF and CAP_NET_ADMIN of the user namespace
   * are enough. Whether other programs are attached at the cgroup cannot be seen then. Linux 6.9.
   */
  token?: string;
}

/** What a capture has done so far. */
export interface CaptureStats {
  /** Calls of connect(2), and of sendmsg(2) to an address, that were led here. */
  captured: number;
  /** Those that were left alone because of `exempt`. */
  exempt: number;
  /** Dials of an alias, which is no destination: refused with EPERM. And datagrams to one, which are dropped. */
  refused: number;
  /** Refused with EPERM because no alias could be had. */
  exhausted: number;
  /** Connections of which it was forgotten that they were captured before they were accepted: they are `unknown`. */
  lost: number;
  /** Aliases that were given out: as many as destinations, if none has come back after being forgotten. */
  aliases: number;
}

const OPTIONS: ReadonlySet<string> = new Set<keyof CaptureOptions>([
  'cgroup',
  'destinations',
  'exclude',
  'exempt',
  'families',
  'include',
  'pin',
  'port',
  'protocols',
  'token',
]);

function checkList(name: string, value: unknown): void {
  if (!Array.isArray(value)) throw invalidType(name, 'an array', value);
  if (value.length > MOST_EXEMPTIONS)
    throw outOfRange(name, `no longer than ${MOST_EXEMPTIONS}`, value.length);
}

function checkOptions(options: CaptureOptions): void {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  checkOptionNames('attachCapture', Object.keys(options), OPTIONS);
  const { cgroup, port, families, protocols, destinations, pin, token } = options;
  if (typeof cgroup !== 'string') throw invalidType('options.cgroup', 'of type string', cgroup);
  checkInteger('options.port', port, 1, 65535);
  if (families !== undefined) checkMembers('options.families', families, ['IPv4', 'IPv6']);
  if (protocols !== undefined) checkMembers('options.protocols', protocols, ['tcp', 'udp']);
  if (pin !== undefined && typeof pin !== 'string') throw invalidType('options.pin', 'of type string', pin);
  if (token !== undefined && typeof token !== 'string')
    throw invalidType('options.token', 'of type string', token);
  if (destinations === undefined) return;
  checkInteger('options.destinations', destinations, 16, 65536);
  if ((destinations & (destinations - 1)) !== 0)
    throw outOfRange('options.destinations', 'a power of two', destinations);
}

function readExempt(exempt: CaptureOptions['exempt'] = {}): CaptureSettings['exempt'] {
  const { uids = [], marks = [], cgroups = [] } = exempt;
  for (const [name, list] of Object.entries({ uids, marks, cgroups })) checkList(`exempt.${name}`, list);
  for (const uid of uids) checkInteger('exempt.uids', uid, 0, 2 ** 32 - 2);
  return {
    uids,
    marks: readMarks('exempt.marks', marks),
    cgroups: cgroups.map((path) => cgroupIdentity(path)),
  };
}

/**
 * Of all captures of a thread, so that one filter knows the datagrams of all that lead to a socket. Above what a program
 * may set as its socket's priority without rights (SO_PRIORITY in socket(7)).
 */
let sharedTag: number | undefined;

/** How many captures, also such as have been closed and have connections left, use the route of a port's aliases. */
const routes = new Map<number, number>();

function claimRoute(port: number): void {
  const { address, length } = aliasPrefix(port);
  const status = binding().localRoute(address, length, true);
  // The route of a process that was killed is ours now.
  if (status !== 0 && status !== -EEXIST) throw attachError([status, 'netlink RTM_NEWROUTE', '']);
  routes.set(port, (routes.get(port) ?? 0) + 1);
}

function releaseRoute(port: number): void {
  const left = routes.get(port)! - 1;
  if (left > 0) {
    routes.set(port, left);
    return;
  }
  routes.delete(port);
  const { address, length } = aliasPrefix(port);
  binding().localRoute(address, length, false);
}

/** A capture that is attached. Made by {@link attachCapture}. */
export class Capture {
  readonly #id: number;
  readonly #port: number;
  readonly #pinned: boolean;
  readonly #routed: boolean;
  #last: CaptureStats | undefined;

  /** @internal */
  constructor(id: number, port: number, pinned: boolean, routed: boolean) {
    this.#id = id;
    this.#port = port;
    this.#pinned = pinned;
    this.#routed = routed;
  }

  /** Live numbers; after {@link close} those of its end. */
  get stats(): CaptureStats {
    if (this.#last) return { ...this.#last };
    const [captured, exempt, refused, exhausted, lost, aliases] = binding().captureCounts(this.#id)!;
    return { captured, exempt, refused, exhausted, lost, aliases };
  }

  /**
   * Ends the capture: programs dial by themselves again. Connections that are open go on, and what has not been accepted
   * yet is still known; the route of the aliases is removed when there are none left, or when the process ends. A pinned
   * capture's pins are removed.
   */
  close(): void {
    if (this.#last) return;
    this.#last = this.stats;
    binding().captureDetach(this.#id, this.#pinned);
    if (!this.#inUse()) {
      this.#release();
      return;
    }
    // Without the route the packets of open connections would have nowhere to go.
    const release = (): void => {
      clearInterval(timer);
      process.off('exit', release);
      this.#release();
    };
    const timer = setInterval(() => {
      if (!this.#inUse()) release();
    }, POLL_MS).unref();
    process.on('exit', release);
  }

  #inUse(): boolean {
    return hasConnections(this.#port);
  }

  #release(): void {
    binding().captureClose(this.#id);
    filterPorts(this.#port);
    if (this.#routed) releaseRoute(this.#port);
  }

  /** {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/**
 * `bpf(2)` `BPF_PROG_LOAD`, `BPF_LINK_CREATE` at connect(2) and sendmsg(2) of a cgroup: what its programs dial, to
 * whatever address, comes to `port` of this process, and createServer, createRelayServer and createDatagramSocket of this
 * thread know where it was going (`originalDst.kind === 'ebpf'`). There is no rule, no NAT and no conntrack entry; later
 * packets cost nothing.
 *
 * Listen first, on all addresses. The destination is replaced by an alias, an address of 127.128.0.0/9 or of
 * fd0d:d057:0:PORT::/64 (for which a local route is made and removed), at `port`; programs do not see that: getpeername(2)
 * and the sources of datagrams are the destination's. Programs of another network namespace are left alone.
 *
 * Fail-open: the end of this process, by whatever signal, ends the capture. See `pin`.
 *
 * @throws argument errors; `ERR_CAPTURE_CGROUP`, `ERR_CAPTURE_MATCH`, `ERR_RULES_ADDRESS`, `ERR_RULES_PORT`;
 *   `ERR_CAPTURE_SELF` (this process is in the cgroup and nothing is exempt), `ERR_CAPTURE_STACKED` (another program is
 *   attached there), `ERR_CAPTURE_PINNED`; system errors of bpf (`EPERM`; those of a kernel that lacks something name it)
 * Capability: CAP_BPF and CAP_NET_ADMIN, or `token`. Kernel: 5.14. Source: bpf(2); Documentation/bpf/prog_cgroup_sockopt.rst and
 * net/core/filter.c, sock_addr_func_proto.
 */
export function attachCapture(options: CaptureOptions): Capture {
  checkOptions(options);
  const { port, families = ['IPv4', 'IPv6'], protocols = ['tcp'], destinations = 16384, pin } = options;
  const flows = compileFlows(options.include, options.exclude);
  const exempt = readExempt(options.exempt);
  const native = binding();
  const directory = cgroupDirectory(options.cgroup);
  if (Object.values(exempt).every((list) => list.length === 0) && isInside(directory)) {
    throw codedError('ERR_CAPTURE_SELF', `This process is in ${directory}: its own dials would come back`, {
      hint: 'move it to another cgroup before it opens sockets, or exempt its uid, its mark or a cgroup of its own',
    });
  }
  const routed = families.includes('IPv6');
  if (pin !== undefined) mkdirSync(pin, { recursive: true });
  const cgroup = openSync(directory, 'r');
  try {
    const { randomInt } = crypto();
    const tag = (sharedTag ??= randomInt(16, 2 ** 32));
    const config = packConfig({ port, tag, protocols, families, flows, exempt });
    const { IPv4, IPv6 } = flows.prefixes;
    // Not from 1: a program may still hold an alias of an earlier capture, by a socket of UDP.
    const first = randomInt(1, 2 ** 40);
    if (routed) claimRoute(port);
    const id = native.captureOpen(
      cgroup,
      config,
      flows.ports,
      IPv4,
      IPv6,
      destinations,
      first,
      pin ?? null,
      options.token ?? null,
    );
    if (typeof id === 'number') {
      filterPorts(port);
      return new Capture(id, port, pin !== undefined, routed);
    }
    if (routed) releaseRoute(port);
    const others = (): string[] =>
      describePrograms(
        attachedPrograms(native, [directory], cgroupMount()).filter(({ places }) => isInTheWay(places)),
      );
    throw attachError(id, { pin, others });
  } finally {
    closeSync(cgroup);
  }
}
