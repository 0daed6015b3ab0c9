// A listening socket whose connections a relay thread accepts: where it is, and what the thread may decide by itself.
import { constants } from 'node:os';
import { canonicalAddress, type Endpoint } from '../address.ts';
import { checkFd, checkInteger, invalidType } from '../arguments.ts';
import { binding } from '../binding.ts';
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
import type { Place } from '../recover/place.ts';
import { type AdmissionOptions, readAdmission } from './admission.ts';
import { type DialFrom, listenPlace } from './dial-from.ts';
import { engine } from './engine.ts';
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
  /** A bound TCP socket in place of `port` and `host`; the server's from now on. */
  fd?: number;
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
}

const VERDICTS = { relay: 1, reset: 2 } as const;
const SHARED_NOT =
  'node:cluster does not share the listening socket of a relay server: let one process listen (its thread does the work), or hand one bound socket to every worker and listen({ fd })';

/** Throws unless these say where to listen. */
export function checkListenOptions(options: RelayListenOptions): void {
  const { port = 0, host, fd, backlog, namespace, signal } = options;
  checkInteger('port', port, 0, 65535);
  if (host !== undefined && canonicalAddress(host) === undefined)
    throw invalidType('host', 'a literal IP address', host);
  if (fd !== undefined) checkFd(fd);
  if (backlog !== undefined) checkInteger('backlog', backlog, 0, 65535);
  if (namespace !== undefined) checkNamespace('namespace', namespace);
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw invalidType('signal', 'an instance of AbortSignal', signal);
}

/** Which lasting verdicts are taken back: those about a destination, or about a name, wherever it is wanted. */
export type RevokedVerdicts = Pick<Endpoint, 'address' | 'port'> | { name: string };

/** Node says `listen` for bind(2) too. */
function listenError(errno: number, step: number, at: Pick<Endpoint, 'address' | 'port'>): Error {
  const error = dialError(errno, step, { source: at });
  if (error.syscall !== 'bind') return error;
  const shared = errno === -constants.errno.EADDRINUSE && cluster().isWorker;
  return systemError(errno, { syscall: 'listen', ...at, ...(shared ? { hint: SHARED_NOT } : {}) });
}

/** `listen(2)` until `onOver`, which is called when none of the thread's own relays is left after {@link close}. */
export class Listener {
  /** Where it is bound. */
  readonly address: Endpoint;
  /** struct ListenerStats, for as long as it is not over. */
  readonly stats: ArrayBuffer;
  /** Which network namespace it listens in. */
  readonly namespace: number;
  readonly #id: number;
  readonly #mark: number;
  readonly #from: DialFrom;
  #release: (() => void) | undefined;

  private constructor(id: number, stats: ArrayBuffer, mark: number, place: Place, from: DialFrom) {
    this.#id = id;
    this.stats = stats;
    this.namespace = place.number;
    this.#mark = mark;
    this.#from = from;
    this.address = endpointAt(Role.scratch);
    this.#release = claimPort(this.address.port, place);
  }

  /** `onUndecided` gets the token of each connection that there is no verdict about, with its facts in memory. */
  static listen(
    { port = 0, host, fd = -1, backlog = 65535, namespace }: RelayListenOptions,
    dial: ListenerDial,
    limits: RelayLimits,
    from: DialFrom,
    onUndecided: (
      token: number,
      status: number,
      origin: Origin,
      first: FirstBytes | undefined,
      fd: number,
    ) => void,
    onOver: () => void,
  ): Listener | Error {
    const { transparent = false, mark, preserveSource = false, portFallback = false, inspect } = dial;
    const inspection = inspect && readInspection(inspect);
    const place = listenPlace(namespace, fd);
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
      (token, status, origin, size, accepted) => {
        if (token >= 0) {
          const first =
            size < 0 ? undefined : readFirstBytes(Buffer.from(inspection!.memory.subarray(0, size)));
          onUndecided(token, status, origin, first, accepted);
        } else {
          engine().countAlive(-1);
          onOver();
        }
      },
      inspection?.memory,
      inspection?.ports,
      inspection?.timeout ?? 0,
      namespace?.fd ?? -1,
      from.place.where,
      readAdmission(dial),
    );
    if (typeof more !== 'number') return new Listener(id, more, mark ?? 0, place, from);
    engine().countAlive(-1);
    return listenError(id, more, { address: host ?? '::', port });
  }

  /** The listening descriptor, which stays the thread's. */
  get fd(): number {
    return binding().relayFd(this.#id);
  }

  /** Tells what becomes of connections that the thread deals with by itself, from now on. */
  record(onRecords: ((records: ConnectionRecord[]) => void) | undefined): void {
    const memory = binding().relayRecords(
      this.#id,
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
    binding().relayUnlisten(this.#id, destroy);
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
      this.#id,
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
      binding().relayRevokeVerdicts(this.#id, null, 0, null);
    } else if ('name' in what) {
      const { name } = what;
      if (typeof name !== 'string' || name === '') throw invalidType('name', 'a host name', name);
      binding().relayRevokeVerdicts(this.#id, null, 0, name.toLowerCase().replace(/\.$/, ''));
    } else {
      const { address, port } = what;
      if (canonicalAddress(address) === undefined)
        throw invalidType('destination.address', 'a literal IP address', address);
      binding().relayRevokeVerdicts(this.#id, address, port, null);
    }
  }
}
