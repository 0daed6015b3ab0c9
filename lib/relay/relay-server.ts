import { EventEmitter } from 'node:events';
import { Socket } from 'node:net';
import { canonicalAddress, type Endpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { checkPreserveSource } from '../dial/connect-original.ts';
import { ownDialRefusal, setPath, warnOfLoop, type Origin, type Path } from '../policy/own-dials.ts';
import { countRefusal, destinationRefusal } from '../policy/refusal.ts';
import { checkDialOptions } from '../dial/connect.ts';
import { dialError } from '../dial/dial-error.ts';
import type { EgressPolicy } from '../policy/egress.ts';
import { checkBoolean, checkInteger, invalidType, outOfRange } from '../arguments.ts';
import { codedError, systemError, type CodedError } from '../errors.ts';
import { endpointAt, Slot } from '../recover/kernel-answer.ts';
import type { InterceptedSocket } from '../accept/intercept.ts';
import { claimPort, releasePort } from '../policy/loop-guard.ts';
import { annotate, recoverFromFacts, type KnownDst, type OriginalDst } from '../recover/original-dst.ts';
import { engine } from './engine.ts';
import { type Relay, RelayObject } from './relay-object.ts';
import { reset } from '../node/reset.ts';
import { foreignRuntimeName, unsupportedRuntime } from '../node/runtime.ts';

/** What becomes of a connection: it is relayed to its destination, sent RST, or given to `'connection'`. */
export type RelayVerdict = 'relay' | 'reset' | 'emit';

/** A verdict that holds for the next connections to the same destination too, for `ttl` milliseconds. */
export interface LastingVerdict {
  action: 'relay' | 'reset';
  ttl: number;
}

/** What a policy may answer. */
export type RelayDecision = RelayVerdict | LastingVerdict;

export interface RelayServerOptions {
  /** The policy. Asked about every connection that no lasting verdict covers; `client` is where it comes from. */
  decide: (destination: OriginalDst, client: Endpoint) => RelayDecision | PromiseLike<RelayDecision>;
  /** As of createServer: IP_TRANSPARENT on the listening socket, for TPROXY rules. Default false. */
  transparent?: boolean;
  /** SO_MARK of the connections to the destinations. */
  mark?: number;
  /** As of connectOriginal: dial from the client's own address, with `'port'` from its port too. Default false. */
  preserveSource?: boolean | 'port';
  /** With `preserveSource: 'port'`: when that port is in use towards this destination, take another. Default false. */
  portFallback?: boolean;
  /** Which destinations may be dialled, whatever `decide` says. */
  egress?: EgressPolicy;
  /** As of {@link relay}. */
  idleTimeout?: number;
  /** As of {@link relay}. */
  halfCloseTimeout?: number;
}

/** What a {@link RelayServer}'s thread has done by itself, by lasting verdicts, and what it has not. */
export interface RelayServerStats {
  accepted: number;
  /** Dialled by a lasting verdict. */
  relayed: number;
  /** Sent RST by a lasting verdict. */
  reset: number;
  /** Dials by a lasting verdict that failed, and connections for which there was no descriptor: sent RST. */
  failed: number;
  /** Brought before `decide`. */
  undecided: number;
  /** How many of `relayed` are open now. */
  open: number;
  /** Of those of `relayed` that have closed. */
  bytesToUpstream: number;
  bytesToClient: number;
  /** Verdicts `relay` of `decide` that were refused, by the error's code: `{ ERR_INTERCEPT_LOOP: 1 }`. */
  refused: Record<string, number>;
}

/** The events of a {@link RelayServer}. */
export interface RelayServerEvents {
  listening: [];
  close: [];
  error: [error: Error];
  connection: [socket: InterceptedSocket];
  relay: [relay: Relay, destination: OriginalDst, client: Endpoint];
}

const VERDICTS = { relay: 1, reset: 2 } as const;
const SOURCES = { own: 0, address: 1, port: 2 } as const;
const MAX_MS = 2 ** 31 - 1;

/** A connection that the thread has accepted and nobody has decided about; it keeps the event loop alive. */
interface Waiting {
  readonly token: number;
  readonly destination: OriginalDst;
  readonly client: Endpoint;
  /** How many times revoke() had been called when the policy was asked. */
  readonly revocations: number;
  /** For a dial that the program makes itself. */
  readonly path: Path;
}

function isPromiseLike(
  decision: RelayDecision | PromiseLike<RelayDecision>,
): decision is PromiseLike<RelayDecision> {
  return typeof (decision as Partial<PromiseLike<unknown>> | undefined)?.then === 'function';
}

function readDecision(decision: unknown): { action: RelayVerdict; ttl: number } {
  if (decision === 'relay' || decision === 'reset' || decision === 'emit')
    return { action: decision, ttl: 0 };
  const { action, ttl } = (decision ?? {}) as LastingVerdict;
  if (action !== 'relay' && action !== 'reset') {
    throw outOfRange('verdict', "'relay', 'reset', 'emit' or { action: 'relay' | 'reset', ttl }", decision);
  }
  checkInteger('verdict.ttl', ttl, 0, MAX_MS);
  return { action, ttl };
}

/** Bun and Deno make no socket of a descriptor that has been accepted elsewhere. */
function noSocket(runtime: string): CodedError {
  return unsupportedRuntime(
    `createRelayServer: ${runtime} makes no socket of a connection that the addon has accepted`,
    "answer 'relay' or 'reset', or use Node.js",
  );
}

/** Node says `listen` for bind(2) too. */
function listenError(errno: number, step: number, at: Pick<Endpoint, 'address' | 'port'>): Error {
  const error = dialError(errno, step, { source: at });
  return error.syscall === 'bind' ? systemError(errno, { syscall: 'listen', ...at }) : error;
}

/** An intercepting server that relays. Made by {@link createRelayServer}. */
export class RelayServer extends EventEmitter<RelayServerEvents> {
  readonly #options: RelayServerOptions;
  #state: 'new' | 'listening' | 'closing' | 'closed' = 'new';
  #address: Endpoint | undefined;
  #listener = -1;
  #counters: Float64Array = new Float64Array(8);
  readonly #refused: Record<string, number> = {};
  #revocations = 0;

  /** @internal */
  constructor(options: RelayServerOptions) {
    super();
    this.#options = options;
  }

  /**
   * `bind(2)`, `listen(2)`: once. `'listening'` follows, or `'error'`.
   *
   * @param port 0: any that is free
   * @param host a literal IP address of this host; default: all of both families
   */
  listen(port = 0, host?: string): this {
    checkInteger('port', port, 0, 65535);
    if (host !== undefined && canonicalAddress(host) === undefined)
      throw invalidType('host', 'a literal IP address', host);
    if (this.#state !== 'new')
      throw codedError('ERR_SERVER_ALREADY_LISTEN', 'This server has listened already');
    const error = this.#start(port, host);
    this.#state = error ? 'closed' : 'listening';
    // A tick later, as a net.Server does: there may be no listeners yet.
    process.nextTick(() => {
      if (error) this.emit('error', error);
      else this.emit('listening');
    });
    return this;
  }

  /** Where it listens; null while it does not. */
  address(): Endpoint | null {
    return this.#state === 'listening' ? { ...this.#address! } : null;
  }

  /** Live numbers, read from shared memory. */
  get stats(): RelayServerStats {
    const [accepted, relayed, wasReset, failed, undecided, open, bytesToUpstream, bytesToClient] = this
      .#counters as unknown as number[];
    return {
      accepted: accepted!,
      relayed: relayed!,
      reset: wasReset!,
      failed: failed!,
      undecided: undecided!,
      open: open!,
      bytesToUpstream: bytesToUpstream!,
      bytesToClient: bytesToClient!,
      refused: { ...this.#refused },
    };
  }

  /**
   * Takes lasting verdicts back: about one destination, or all. Open connections go on. What `decide` has promised and
   * not yet settled was found out before, too: it decides about its own connection and does not last.
   */
  revoke(destination?: Pick<Endpoint, 'address' | 'port'>): this {
    if (this.#state !== 'listening') return this;
    this.#revocations++;
    if (destination === undefined) {
      binding().relayRevokeVerdicts(this.#listener);
      return this;
    }
    const { address, port } = destination;
    if (binding().relaySetVerdict(this.#listener, address, port, 0, 0) !== 0)
      throw invalidType('destination.address', 'a literal IP address', address);
    return this;
  }

  /** Accepts no more; `'close'` follows when the relays that the thread made by itself have ended. */
  close(): this {
    return this.#stop(false);
  }

  /** As {@link close}, and closes those relays. */
  destroy(): this {
    return this.#stop(true);
  }

  #stop(destroy: boolean): this {
    if (this.#state === 'listening') {
      this.#state = 'closing';
      releasePort(this.#address!.port);
      binding().relayUnlisten(this.#listener, destroy);
    } else if (this.#state === 'closing' && destroy) {
      binding().relayUnlisten(this.#listener, true);
    }
    return this;
  }

  #start(port: number, host: string | undefined): Error | undefined {
    const { transparent = false, mark = null, preserveSource, portFallback = false } = this.#options;
    const { idleTimeout = 0, halfCloseTimeout = 0 } = this.#options;
    const source = preserveSource === 'port' ? 'port' : preserveSource ? 'address' : 'own';
    engine().countAlive(1);
    const [id, more] = binding().relayListen(
      host ?? null,
      port,
      transparent,
      mark,
      SOURCES[source],
      portFallback,
      idleTimeout,
      halfCloseTimeout,
      (token, status, origin) => {
        if (token >= 0) this.#onUndecided(token, status, origin);
        else this.#onOver();
      },
    );
    if (typeof more === 'number') {
      engine().countAlive(-1);
      return listenError(id, more, { address: host ?? '::', port });
    }
    this.#listener = id;
    this.#counters = new Float64Array(more);
    this.#address = endpointAt(Slot.local);
    claimPort(this.#address.port);
    return undefined;
  }

  #onOver(): void {
    this.#state = 'closed';
    // The memory is the addon's only as long as the listener is.
    this.#counters = this.#counters.slice();
    engine().countAlive(-1);
    process.nextTick(() => this.emit('close'));
  }

  #onUndecided(token: number, status: number, origin: Origin): void {
    engine().countAlive(1);
    const destination = recoverFromFacts(status, () => this.#address);
    const client = endpointAt(Slot.peer);
    const { port } = this.#address!;
    const loop = origin === 0 ? undefined : ownDialRefusal(origin, destination, port);
    if (loop) {
      countRefusal(this.#refused, loop);
      warnOfLoop(loop);
      this.#refuse(token);
      return;
    }
    const waiting = {
      token,
      destination,
      client,
      revocations: this.#revocations,
      path: origin > 0 ? origin : port,
    };
    let decision: RelayDecision | PromiseLike<RelayDecision>;
    try {
      decision = this.#options.decide(destination, client);
    } catch (error) {
      this.#onPolicyError(waiting, error as Error);
      return;
    }
    // Most policies answer at once, and a promise for every connection costs more than the rest of this method.
    if (!isPromiseLike(decision)) {
      this.#settle(waiting, decision);
      return;
    }
    decision.then(
      (later) => this.#settle(waiting, later),
      (error: Error) => this.#onPolicyError(waiting, error),
    );
  }

  #onPolicyError({ token }: Waiting, error: Error): void {
    this.#refuse(token);
    process.nextTick(() => this.emit('error', error));
  }

  #refuse(token: number): void {
    binding().relayRefuse(token);
    engine().countAlive(-1);
  }

  /** Does what the policy says. */
  #settle(waiting: Waiting, decision: RelayDecision): void {
    let action: RelayVerdict;
    let ttl: number;
    try {
      ({ action, ttl } = readDecision(decision));
    } catch (error) {
      this.#onPolicyError(waiting, error as Error);
      return;
    }
    const { token } = waiting;
    if (action === 'emit') {
      const runtime = foreignRuntimeName();
      if (runtime !== undefined) this.#onPolicyError(waiting, noSocket(runtime));
      else this.#hand(waiting);
    } else if (action === 'reset') {
      this.#remember(waiting, action, ttl);
      this.#refuse(token);
    } else {
      this.#relay(waiting, ttl);
    }
  }

  #hand({ token, destination, path }: Waiting): void {
    const socket = new Socket({
      fd: binding().relayTake(token),
      allowHalfOpen: true,
      readable: true,
      writable: true,
    });
    engine().countAlive(-1);
    annotate(socket, destination);
    setPath(socket, path);
    process.nextTick(() => {
      if (!this.emit('connection', socket as InterceptedSocket)) reset(socket);
    });
  }

  #relay(waiting: Waiting, ttl: number): void {
    const { token, destination, client } = waiting;
    const { mark, egress } = this.#options;
    const joined = new RelayObject();
    // Ahead of the tick in which a relay that has ended already says so; a throwing listener is the program's.
    process.nextTick(() => this.emit('relay', joined, destination, client));
    const refusal = destinationRefusal(destination, egress, mark);
    if (refusal) {
      countRefusal(this.#refused, refusal);
      this.#refuse(token);
      joined.finish({ reason: 'error', side: 'upstream', error: refusal });
    } else {
      this.#remember(waiting, 'relay', ttl);
      const ends = { destination: destination as KnownDst, source: client };
      const mover = engine().dial(token, ends, (outcome) => joined.finish(outcome));
      engine().countAlive(-1);
      /* c8 ignore next 2 -- no memory for a command to the thread */
      if (typeof mover === 'number')
        joined.finish({ reason: 'error', error: systemError(mover, { syscall: 'relay' }) });
      else joined.start(mover);
    }
  }

  /**
   * Lets the thread act by itself on connections to this very address and port.
   * Never for a destination on this host: whether that is a loop depends on who intercepts on what, which changes.
   */
  #remember({ destination, revocations }: Waiting, action: 'relay' | 'reset', ttl: number): void {
    const { kind } = destination;
    if (revocations !== this.#revocations) return;
    if (ttl === 0 || this.#state !== 'listening' || (kind !== 'redirect' && kind !== 'tproxy')) return;
    const { address, port } = destination;
    if (binding().isLocalDestination(address, this.#options.mark ?? 0) !== 0) return;
    binding().relaySetVerdict(this.#listener, address, port, VERDICTS[action], ttl);
  }
}

/**
 * A transparent proxy in one call: `accept4(2)`, SO_ORIGINAL_DST, a policy in TypeScript, `connect(2)` to the
 * destination, {@link relay}.
 *
 * A policy that answers `{ action, ttl }` is not asked again about the same address and port for so long: a thread of
 * the addon then accepts, recovers, dials and relays such connections without a line of JavaScript. It does so only
 * when the kernel's facts alone say where a connection was going; everything else comes to `decide`, also what TypeScript
 * would have to find out more about. Destinations on this host always do, because of loops. `revoke()` takes verdicts
 * back; do so after changing a BlockList of `egress`, which is consulted when a verdict is made.
 *
 * Events: `'listening'`; `'relay'` (relay, destination, client) for connections that `decide` had relayed, whose
 * outcome tells too when the loop guard, the egress policy or the network refused the dial; `'connection'` for those
 * with verdict `'emit'`; `'error'`, also with what `decide` throws (that client is sent RST); `'close'`.
 *
 * @throws argument errors, `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`. On Bun and Deno the verdict `'emit'` is an
 *   `'error'` `ERR_UNSUPPORTED_RUNTIME`.
 * Capability: CAP_NET_ADMIN or CAP_NET_RAW for `transparent`, `mark` and `preserveSource`. Source: ip(7), splice(2),
 * epoll(7).
 */
export function createRelayServer(options: RelayServerOptions): RelayServer {
  checkDialOptions(options);
  checkPreserveSource(options.preserveSource);
  const { decide, transparent, idleTimeout, halfCloseTimeout } = options;
  if (typeof decide !== 'function') throw invalidType('options.decide', 'of type function', decide);
  if (transparent !== undefined) checkBoolean('options.transparent', transparent);
  if (idleTimeout !== undefined) checkInteger('options.idleTimeout', idleTimeout, 0, MAX_MS);
  if (halfCloseTimeout !== undefined) checkInteger('options.halfCloseTimeout', halfCloseTimeout, 0, MAX_MS);
  binding();
  return new RelayServer(options);
}
