// A server whose connections a thread of the addon accepts, dials and relays: a transparent proxy in one call.
import { EventEmitter } from 'node:events';
import { Socket } from 'node:net';
import type { InterceptedSocket } from '../accept/intercept.ts';
import type { Endpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { NameResolver } from '../dial/name-resolver.ts';
import { codedError, systemError, type CodedError } from '../errors.ts';
import { reset } from '../node/reset.ts';
import { foreignRuntimeName } from '../node/runtime.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import { type Origin, ownDialRefusal, setPath } from '../policy/own-dials.ts';
import { endpointAt, Role } from '../recover/kernel-answer.ts';
import { annotate, recoverFromFacts } from '../recover/original-dst.ts';
import { Place } from '../recover/place.ts';
import { namedIn, withAddresses } from './by-name.ts';
import { isPromiseLike, readDecision, type ReadDecision, type RelayDecision } from './decision.ts';
import { checkListenOptions, Listener, type RelayListenOptions, type RevokedVerdicts } from './listener.ts';
import { DialFrom } from './dial-from.ts';
import type { RelayOutcome } from './outcome.ts';
import { RelayObject } from './relay-object.ts';
import { checkServerOptions, type RelayServerOptions } from './server-options.ts';
import { planDial } from './routed.ts';
import { type RelayServerStats, ServerCounts } from './server-stats.ts';
import { noSocket, notRunning } from './server-errors.ts';
import { readTimeouts, type RelayLimits } from './timeouts.ts';
import type { RelayServer, RelayServerEvents } from './types.ts';
import { Undecided } from './undecided.ts';

/** A {@link RelayServer}: the thread's part is in the addon, the policy's here. */
export class NativeRelayServer extends EventEmitter<RelayServerEvents> implements RelayServer {
  readonly #options: RelayServerOptions;
  readonly #limits: RelayLimits;
  #state: 'new' | 'listening' | 'closing' | 'closed' = 'new';
  #destroyed = false;
  #listener: Listener | undefined;
  #from: DialFrom | undefined;
  readonly #counts = new ServerCounts();
  readonly #resolver: NameResolver;
  /** Those whose decision takes its time. */
  readonly #undecided = new Set<Undecided>();
  #revocations = 0;

  constructor(options: RelayServerOptions) {
    super();
    this.#options = options;
    this.#limits = readTimeouts(options);
    this.#resolver = new NameResolver(options.resolve);
  }

  listen(port?: number, host?: string): this;
  listen(options: RelayListenOptions): this;
  listen(where: number | RelayListenOptions = {}, host?: string): this {
    const options =
      typeof where === 'object' && where !== null
        ? where
        : { port: where, ...(host === undefined ? {} : { host }) };
    checkListenOptions(options);
    if (this.#state !== 'new')
      throw codedError('ERR_SERVER_ALREADY_LISTEN', 'This server has listened already');
    const from = DialFrom.open(this.#options.namespace, options.namespace, options.fd ?? -1);
    const listener =
      from instanceof Error
        ? from
        : Listener.listen(
            options,
            this.#options,
            this.#limits,
            from,
            (...question) => this.#onUndecided(...question),
            () => this.#onListenerOver(),
          );
    if (listener instanceof Error) {
      if (from instanceof DialFrom) from.close();
      this.#state = 'closed';
      // A tick later, as a net.Server does: there may be no listeners yet.
      process.nextTick(() => this.emit('error', listener));
      return this;
    }
    this.#state = 'listening';
    this.#listener = listener;
    this.#from = from as DialFrom;
    this.#counts.attach(listener.stats);
    process.nextTick(() => this.emit('listening'));
    const { signal } = options;
    if (signal) {
      const onAbort = (): void => void this.close();
      signal.addEventListener('abort', onAbort);
      this.once('close', () => signal.removeEventListener('abort', onAbort));
      if (signal.aborted) onAbort();
    }
    return this;
  }

  address(): Endpoint | null {
    return this.#state === 'listening' ? { ...this.#listener!.address } : null;
  }

  /** The listening descriptor, which stays this server's. */
  get fd(): number | undefined {
    return this.#state === 'listening' ? this.#listener!.fd : undefined;
  }

  get stats(): RelayServerStats {
    return this.#counts.read();
  }

  revoke(what?: RevokedVerdicts): this {
    if (this.#state !== 'listening') return this;
    this.#revocations++;
    this.#listener!.revoke(what);
    return this;
  }

  close(callback?: (error?: Error) => void): this {
    if (callback) {
      if (this.#state === 'listening' || this.#state === 'closing') this.once('close', () => callback());
      else process.nextTick(() => callback(notRunning()));
    }
    this.#stop(false);
    return this;
  }

  destroy(): this {
    this.#stop(true);
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.close(() => resolve()));
  }

  #stop(destroy: boolean): void {
    if (this.#state !== 'listening' && this.#state !== 'closing') return;
    this.#destroyed ||= destroy;
    if (this.#state === 'listening' || destroy) this.#listener?.close(destroy);
    this.#state = 'closing';
    if (!destroy) return;
    for (const one of this.#undecided) this.#end(one, notRunning());
    for (const joined of this.#counts.relays) joined.destroy();
  }

  #onListenerOver(): void {
    this.#counts.detach();
    this.#listener = undefined;
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    const left = this.#undecided.size + this.#counts.relays.size;
    if (this.#state !== 'closing' || this.#listener || left > 0) return;
    this.#state = 'closed';
    this.#from!.close();
    process.nextTick(() => this.emit('close'));
  }

  #onUndecided(
    token: number,
    status: number,
    origin: Origin,
    first: FirstBytes | undefined,
    fd: number,
  ): void {
    const { address, namespace } = this.#listener!;
    const destination = recoverFromFacts(status, () => address, new Place(fd, namespace));
    const client = endpointAt(Role.peer);
    const path = origin > 0 ? origin : address.port;
    const one = new Undecided(token, { destination, client, first, revocations: this.#revocations, path });
    const about = { server: this, client };
    this.#counts.connection(destination, about);
    const loop = origin === 0 ? undefined : ownDialRefusal(origin, destination, address.port);
    if (loop) {
      this.#counts.loop(loop, about);
      one.refuse();
      return;
    }
    let decision: RelayDecision | PromiseLike<RelayDecision>;
    try {
      decision = this.#options.decide(destination, client, first, one);
    } catch (error) {
      this.#onPolicyError(one, error as Error);
      return;
    }
    // Most policies answer at once, and a promise for every connection costs more than the rest of this method.
    if (!isPromiseLike(decision) && namedIn(decision) === undefined) {
      this.#settle(one, decision);
      return;
    }
    this.#undecided.add(one);
    one.wait(this.#options.decisionTimeout ?? 30_000, (reason) => this.#end(one, reason));
    withAddresses(decision, one.question, this.#resolver, this.#options.egress).then(
      (later) => this.#settle(one, later),
      (error: Error) => this.#onPolicyError(one, error),
    );
  }

  /** Nobody waits for this decision any more. */
  #end(one: Undecided, reason: CodedError): void {
    this.#counts.refused(reason);
    this.#undecided.delete(one);
    one.refuse(reason);
    this.#closeIfDone();
  }

  #onPolicyError(one: Undecided, error: Error): void {
    if (one.over) return;
    this.#refuse(one);
    process.nextTick(() => this.emit('error', error));
  }

  #refuse(one: Undecided): void {
    this.#undecided.delete(one);
    this.#counts.reset();
    one.refuse();
    this.#closeIfDone();
  }

  /** Does what the policy says. */
  #settle(one: Undecided, decision: RelayDecision): void {
    if (one.over) return;
    let read: ReadDecision;
    try {
      read = readDecision(decision);
    } catch (error) {
      this.#onPolicyError(one, error as Error);
      return;
    }
    const { action, ttl } = read;
    if (action === 'emit') {
      this.#hand(one);
    } else if (action === 'reset' || this.#destroyed) {
      this.#remember(one, 'reset', ttl);
      this.#refuse(one);
    } else {
      this.#relay(one, read);
    }
  }

  #hand(one: Undecided): void {
    const runtime = foreignRuntimeName();
    if (runtime !== undefined) {
      this.#onPolicyError(one, noSocket(runtime));
      return;
    }
    this.#undecided.delete(one);
    const socket = new Socket({ fd: one.take(), allowHalfOpen: true, readable: true, writable: true });
    annotate(socket, one.question.destination);
    setPath(socket, one.question.path);
    process.nextTick(() => {
      if (!this.emit('connection', socket as InterceptedSocket)) reset(socket);
    });
    this.#closeIfDone();
  }

  #relay(one: Undecided, decision: ReadDecision): void {
    const { destination, client, first } = one.question;
    const joined = new RelayObject();
    // Ahead of the tick in which a relay that has ended already says so; a throwing listener is the program's.
    process.nextTick(() => this.emit('relay', joined, destination, client, first));
    this.#undecided.delete(one);
    const dial = planDial(one, decision, this.#options, this.#from!.place);
    if (dial instanceof Error) {
      this.#counts.refused(dial);
      one.refuse();
      joined.finish({ reason: 'error', side: 'upstream', error: dial });
      this.#closeIfDone();
      return;
    }
    this.#remember(one, 'relay', decision.ttl);
    this.#counts.begin(joined);
    const finish = (outcome: RelayOutcome): void => {
      joined.finish(outcome);
      this.#counts.end(joined, outcome);
      this.#closeIfDone();
    };
    const mover = dial(finish);
    /* c8 ignore next 2 -- no memory for a command to the thread */
    if (typeof mover === 'number')
      finish({ reason: 'error', error: systemError(mover, { syscall: 'relay' }) });
    else joined.start(mover);
  }

  #remember({ question }: Undecided, action: 'relay' | 'reset', ttl: number): void {
    if (ttl === 0 || this.#state !== 'listening' || question.revocations !== this.#revocations) return;
    this.#listener!.remember(question.destination, question.first, action, ttl);
  }
}

/**
 * A transparent proxy in one call: `accept4(2)`, SO_ORIGINAL_DST, a policy in TypeScript, `connect(2)` to the
 * destination, {@link relay}.
 *
 * A policy that answers `{ action, ttl }` is not asked again about the same address and port for so long (with
 * `inspect`: the same address, port, protocol, name and `ech`): a thread of
 * the addon then accepts, recovers, dials and relays such connections without a line of JavaScript. It does so only
 * when the kernel's facts alone say where a connection was going; everything else comes to `decide`, also what TypeScript
 * would have to find out more about. Destinations on this host always do, because of loops. `revoke()` takes verdicts
 * back; do so after changing a BlockList of `egress`, which is consulted when a verdict is made.
 *
 * `decide` may take its time: the client waits, and is sent RST after `decisionTimeout`; see {@link PendingConnection}.
 *
 * Every connection that comes to `decide` is published on the diagnostics channels `original-dst:connection` and
 * `original-dst:error`, as those of createServer are, with `client` (an {@link Endpoint}) in place of `socket`.
 *
 * Events: `'listening'`; `'relay'` (relay, destination, client, first) for connections that `decide` had relayed, whose
 * outcome tells too when the loop guard, the egress policy or the network refused the dial; `'connection'` for those
 * with verdict `'emit'`; `'error'`, also with what `decide` throws (that client is sent RST); `'close'`, when every relay has ended.
 *
 * @throws argument errors (`ERR_INVALID_ARG_VALUE` for an option that it does not have), `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`. On Bun and Deno the verdict `'emit'` is an
 *   `'error'` `ERR_UNSUPPORTED_RUNTIME`.
 * Capability: CAP_NET_ADMIN or CAP_NET_RAW for `transparent`, `mark` and `preserveSource`. Source: ip(7), splice(2),
 * epoll(7).
 */
export function createRelayServer(options: RelayServerOptions): RelayServer {
  checkServerOptions(options);
  const server = new NativeRelayServer(options);
  binding();
  return server;
}
