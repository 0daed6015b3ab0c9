// A listening socket whose connections a relay thread accepts: where it is, and what the thread may decide by itself.
import { constants } from 'node:os';
import type { ProxyProtocolOptions } from '../accept/proxy-protocol.ts';
import { canonicalAddress, type Endpoint } from '../address.ts';
import { checkBoolean, checkFd, checkInteger, checkSignal, invalidType } from '../arguments.ts';
import { type Binding, binding } from '../binding.ts';
import type { ConnectOriginalOptions } from '../dial/connect-original.ts';
import { dialError } from '../dial/dial-error.ts';
import { systemError } from '../errors.ts';
import { claimPort } from '../policy/loop-guard.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import { protocolNumber, readFirstBytes } from '../names/parse.ts';
import { checkNamespace, type Namespace } from '../namespace/namespace.ts';
import { cluster } from '../node/on-demand.ts';
import type { Origin } from '../policy/own-dials.ts';
import { endpointAt, Role } from '../recover/kernel-answer.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { parseProxyHeader, type ProxyHeader } from '../recover/proxy-header.ts';
import type { Place } from '../recover/place.ts';
import { type AdmissionOptions, readAdmission } from './admission.ts';
import { type DialFrom, listenPlace } from './dial-from.ts';
import { engine } from './engine.ts';
import { readProxyProtocol } from './headers.ts';
import { readRecords } from './native-records.ts';
import type { ConnectionRecord } from './records.ts';
import { readInspection, type RelayInspectOptions } from './inspection.ts';
import type { Route } from './route.ts';
import type { RelayLimits } from './timeouts.ts';

/** Where a relay server listens. */
export interface RelayListenOptions {
  /** Default 0: any that is free. */
  port?: number;
  /** A literal IP address of this host. Default: all of both families. */
  host?: string;
  /** A bound TCP socket in place of `port` and `host`; the server's from `'listening'` on. One that is refused stays yours. */
  fd?: number;
  /**
   * SO_REUSEPORT: others of this user, workers of a cluster or the next start of this program, may listen at the port
   * too, and the kernel spreads connections over all. `close()` then goes on accepting for half a second what has begun
   * here, and leaves the rest to the others: none is lost. Default false.
   */
  reusePort?: boolean;
  /** As of listen(2). Default 65,535, of which the kernel takes as much as net.core.somaxconn allows. */
  backlog?: number;
  /**
   * Listen in this network namespace. Without createServer's own option `namespace`, the destinations are dialled in there too.
   */
  namespace?: Namespace;
  /** Aborting it is `close()`. */
  signal?: AbortSignal;
}

/** What a relay thread has to know to dial by itself. */
export interface ListenerDial
  extends AdmissionOptions, Pick<ConnectOriginalOptions, 'preserveSource' | 'portFallback' | 'mark'> {
  transparent?: boolean;
  inspect?: RelayInspectOptions;
  proxyProtocol?: ProxyProtocolOptions;
  threads?: number;
}

const VERDICTS = { relay: 1, reset: 2 } as const;
const SHARED_NOT =
  'node:cluster does not share the listening socket of a relay server: listen({ reusePort: true }) in every worker, or let one process listen with `threads`';
const IN_USE =
  'another socket has that port: to share it, as with another start of this program, listen({ reusePort: true }) in both';

/** Throws unless these say where to listen. */
export function checkListenOptions(options: RelayListenOptions): void {
  const { port = 0, host, fd, backlog, reusePort, namespace, signal } = options;
  checkInteger('port', port, 0, 65535);
  if (host !== undefined && canonicalAddress(host) === undefined)
    throw invalidType('host', 'a literal IP address', host);
  if (fd !== undefined) checkFd(fd);
  if (reusePort !== undefined) checkBoolean('reusePort', reusePort);
  if (backlog !== undefined) checkInteger('backlog', backlog, 0, 65535);
  if (namespace !== undefined) checkNamespace('namespace', namespace);
  checkSignal('signal', signal);
}

/** Which lasting verdicts are taken back: those about a destination, or about a name, wherever it is wanted. */
export type RevokedVerdicts = Pick<Endpoint, 'address' | 'port'> | { name: string };

/** Node says `listen` for bind(2) too. */
function listenError(errno: number, step: number, at: Pick<Endpoint, 'address' | 'port'>): Error {
  const error = dialError(errno, step, { source: at });
  if (error.syscall !== 'bind') return error;
  const inUse = errno === -constants.errno.EADDRINUSE;
  const hint = inUse && cluster().isWorker ? SHARED_NOT : IN_USE;
  return systemError(errno, { syscall: 'listen', ...at, ...(inUse && { hint }) });
}

/** The connection's token, what readFacts answers, its origin, what was seen, its descriptor, whose it is, and its age in ms. */
export type OnUndecided = (
  token: number,
  status: number,
  origin: Origin,
  first: FirstBytes | undefined,
  fd: number,
  thread: number | undefined,
  header: ProxyHeader | undefined,
  age: number,
) => void;

type NativeCallback = Parameters<Binding['relayListenToo']>[2];

/** `listen(2)` until `onOver`, which is called when none of the threads' own relays is left after {@link close}. */
export class Listener {
  /** Where it is bound. */
  readonly address: Endpoint;
  /** struct ListenerStats of each thread, for as long as it is not over. */
  readonly stats: ArrayBuffer[];
  /** Which network namespace it listens in. */
  readonly namespace: number;
  /** One for each thread; what they share, verdicts and limits, goes by the first. */
  readonly #ids: number[];
  readonly #mark: number;
  readonly #from: DialFrom;
  #release: (() => void) | undefined;

  private constructor(ids: number[], stats: ArrayBuffer[], mark: number, place: Place, from: DialFrom) {
    this.#ids = ids;
    this.stats = stats;
    this.namespace = place.number;
    this.#mark = mark;
    this.#from = from;
    this.address = endpointAt(Role.scratch);
    this.#release = claimPort(this.address.port, place);
  }

  /** `onUndecided` gets the token of each connection that there is no verdict about, with its facts in memory. */
  static listen(
    { port = 0, host, fd = -1, backlog = 65535, reusePort = false, namespace }: RelayListenOptions,
    dial: ListenerDial,
    limits: RelayLimits,
    from: DialFrom,
    onUndecided: OnUndecided,
    onOver: () => void,
  ): Listener | Error {
    const { transparent = false, mark, preserveSource = false, portFallback = false, inspect } = dial;
    const { threads = 1 } = dial;
    const inspection = inspect && readInspection(inspect);
    const headers = readProxyProtocol(dial.proxyProtocol);
    const place = listenPlace(namespace, fd);
    const ids: number[] = [];
    const stats: ArrayBuffer[] = [];
    let over = 0;
    const callback = (thread: number): NativeCallback => {
      // Where there is one only, whoever has the least to do takes what is decided about: see setRelayThreads.
      const stays = threads > 1 ? thread : undefined;
      return (token, status, origin, size, accepted, taken, age) => {
        if (token >= 0) {
          const first =
            size < 0 ? undefined : readFirstBytes(Buffer.from(inspection!.memory.subarray(0, size)));
          // The thread has parsed it already.
          const header = taken && (parseProxyHeader(Buffer.from(taken)) as ProxyHeader);
          onUndecided(token, status, origin, first, accepted, stays, header, age);
        } else if (++over === ids.length) {
          engine().countAlive(-1);
          onOver();
        }
      };
    };
    engine().countAlive(1);
    const [id, more] = binding().relayListen(
      host ?? null,
      port,
      fd,
      backlog,
      transparent,
      mark ?? null,
      preserveSource === 'port' ? 2 : preserveSource ? 1 : 0,
      portFallback,
      limits.words,
      callback(0),
      inspection?.memory,
      inspection?.ports,
      inspection?.timeout ?? 0,
      namespace?.fd ?? -1,
      from.place.where,
      readAdmission(dial),
      threads > 1,
      reusePort,
      headers.from,
      headers.timeout,
    );
    if (typeof more === 'number') {
      engine().countAlive(-1);
      return listenError(id, more, { address: host ?? '::', port });
    }
    ids.push(id);
    stats.push(more);
    for (let thread = 1; thread < threads; thread++) {
      const [another, itsStats] = binding().relayListenToo(id, thread, callback(thread));
      /* c8 ignore next -- no descriptor or no memory: then there are fewer threads */
      if (typeof itsStats === 'number') break;
      ids.push(another);
      stats.push(itsStats);
    }
    return new Listener(ids, stats, mark ?? 0, place, from);
  }

  /** The listening descriptor, which stays the thread's. */
  get fd(): number {
    return binding().relayFd(this.#ids[0]!);
  }

  /** Tells what becomes of connections that the thread deals with by itself, from now on. */
  record(onRecords: ((records: ConnectionRecord[]) => void) | undefined): void {
    for (const id of this.#ids) this.#recordOf(id, onRecords);
  }

  #recordOf(id: number, onRecords: ((records: ConnectionRecord[]) => void) | undefined): void {
    const memory = binding().relayRecords(
      id,
      onRecords === undefined
        ? null
        : (count, text) => onRecords(readRecords(memory as ArrayBuffer, count, text)),
    );
    /* c8 ignore next */
    if (typeof memory === 'number') throw systemError(memory, { syscall: 'relay' });
  }

  /** Accepts no more. `destroy`: closes the relays too that the thread has made by itself. */
  close(destroy: boolean): void {
    this.#release?.();
    this.#release = undefined;
    for (const id of this.#ids) binding().relayUnlisten(id, destroy);
  }

  /**
   * Lets the thread act by itself on connections to this very address and port, whose first bytes, where they are
   * looked at, say the same.
   * Never for a destination on this host, or another place on it that is dialled in its stead: whether that is a loop
   * depends on who intercepts on what, which changes.
   */
  remember(
    destination: OriginalDst,
    first: FirstBytes | undefined,
    action: 'relay' | 'reset',
    ttl: number,
    route?: Route,
  ): void {
    if (destination.kind === 'direct' || destination.kind === 'unknown') return;
    const { address, port, kind } = destination;
    const dialled = route === undefined || route.isVia ? [] : route.hops.map((hop) => hop.address);
    const isLocal = (each: string): boolean =>
      binding().isLocalDestination(each, this.#mark, this.#from.place.where) !== 0;
    if (isLocal(address) || dialled.some(isLocal)) return;
    binding().relaySetVerdict(
      this.#ids[0]!,
      address,
      port,
      VERDICTS[action],
      ttl,
      kind === 'tproxy',
      first === undefined ? -1 : protocolNumber(first.protocol),
      first?.ech ?? false,
      first?.name ?? null,
      route?.native,
    );
  }

  /** Takes back what {@link remember} said of one destination, of one name, or of all. */
  revoke(what?: RevokedVerdicts): void {
    if (what === undefined) {
      binding().relayRevokeVerdicts(this.#ids[0]!, null, 0, null);
    } else if ('name' in what) {
      const { name } = what;
      if (typeof name !== 'string' || name === '') throw invalidType('name', 'a host name', name);
      binding().relayRevokeVerdicts(this.#ids[0]!, null, 0, name.toLowerCase().replace(/\.$/, ''));
    } else {
      const { address, port } = what;
      if (canonicalAddress(address) === undefined)
        throw invalidType('destination.address', 'a literal IP address', address);
      binding().relayRevokeVerdicts(this.#ids[0]!, address, port, null);
    }
  }
}
