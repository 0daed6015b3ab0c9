// A relay server's life, and what becomes of each connection that its threads leave to the policy.
import { EventEmitter } from 'node:events';
import { Socket } from 'node:net';
import { decisions, publishError } from '../accept/channels.ts';
import type { InterceptedSocket } from '../accept/intercept.ts';
import type { Endpoint } from '../address.ts';
import { dials, publishDial } from '../dial/channel.ts';
import { NameResolver } from '../dial/name-resolver.ts';
import { codedError, systemError, type CodedError } from '../errors.ts';
import { closeOnAbort } from '../node/close-on-abort.ts';
import { reset } from '../node/reset.ts';
import { foreignRuntimeName } from '../node/runtime.ts';
import { ownDialRefusal, setPath } from '../policy/own-dials.ts';
import { endpointAt, Role } from '../recover/kernel-answer.ts';
import { annotate, type OriginalDst, recoverFromFacts } from '../recover/original-dst.ts';
import { Place } from '../recover/place.ts';
import { setProxyHeader } from '../recover/proxy-header.ts';
import { hasNames, withAddresses } from './by-name.ts';
import { relays } from './channel.ts';
import { Crowd } from './crowd.ts';
import { isPromiseLike, readDecision, type ReadDecision, type RelayDecision } from './decision.ts';
import {
  checkListenOptions,
  Listener,
  type OnUndecided,
  type RelayListenOptions,
  type RevokedVerdicts,
} from './listener.ts';
import { drain, type DrainOptions } from './draining.ts';
import { DialFrom } from './dial-from.ts';
import { outcomeText } from './outcome.ts';
import { RelayObject } from './relay-object.ts';
import type { RelayServerOptions } from './server-options.ts';
import { type ConnectionRecord, RecordBatches } from './records.ts';
import type { Route } from './route.ts';
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
  readonly #undecided = new Crowd<Undecided>();
  #revocations = 0;
  // A tick later: a throwing listener must not keep others from theirs.
  readonly #records = new RecordBatches((records) => process.nextTick(() => this.emit('records', records)));

  constructor(options: RelayServerOptions) {
    super();
    this.#options = options;
    this.#limits = readTimeouts(options);
    this.#resolver = new NameResolver(options.resolve);
    // Nothing is recorded that nobody wants to know.
    const events = this as EventEmitter;
    events.on('newListener', (event) => event === 'records' && this.#record(true));
    events.on('removeListener', () => this.#record(this.listenerCount('records') > 0));
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
        : Listener.listen(options, this.#options, this.#limits, from, this.#onUndecided, () =>
            this.#onListenerOver(),
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
    this.#record(this.#records.wanted);
    process.nextTick(() => this.emit('listening'));
    closeOnAbort(options.signal, this);
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

  drain(options?: DrainOptions): Promise<void> {
    return drain(this, () => this.stats.open + this.#undecided.size, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drain();
  }

  #stop(destroy: boolean): void {
    if (this.#state !== 'listening' && this.#state !== 'closing') return;
    this.#destroyed ||= destroy;
    if (this.#state === 'listening' || destroy) this.#listener?.close(destroy);
    this.#state = 'closing';
    if (!destroy) return;
    for (const one of this.#undecided.all()) this.#end(one, notRunning());
    for (const relay of this.#counts.relays.all()) relay.destroy();
  }

  #record(wanted: boolean): void {
    if (wanted !== this.#records.wanted || wanted)
      this.#listener?.record(wanted ? this.#onRecords : undefined);
    this.#records.wanted = wanted;
  }

  readonly #onRecords = (records: ConnectionRecord[]): void => this.#records.addAll(records);

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
    this.#records.flush();
    process.nextTick(() => this.emit('close'));
  }

  readonly #onUndecided: OnUndecided = (token, status, origin, first, fd, thread, header, age) => {
    const { address, namespace } = this.#listener!;
    const destination: OriginalDst =
      header?.destination === undefined
        ? recoverFromFacts(status, () => address, new Place(fd, namespace))
        : { ...header.destination, kind: 'proxy' };
    const client = header?.client ?? endpointAt(Role.peer);
    const path = origin > 0 ? origin : address.port;
    const question = { destination, client, first, revocations: this.#revocations, path, thread, header };
    const one = new Undecided(token, question, this.#records.begin(client, destination, first, age));
    const about = { server: this, client };
    this.#counts.connection(destination, about);
    const loop = origin === 0 ? undefined : ownDialRefusal(origin, destination, address.port);
    if (loop) {
      this.#counts.loop(loop, about);
      one.refuse();
      one.record?.end(undefined, loop.code);
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
    if (!isPromiseLike(decision) && !hasNames(decision)) {
      this.#settle(one, decision);
      return;
    }
    this.#undecided.add(one);
    one.wait(this.#options.decisionTimeout ?? 30_000, (reason) => this.#end(one, reason));
    withAddresses(decision, one.question, this.#resolver, this.#options.egress).then(
      (later) => this.#settle(one, later),
      (error: Error) => this.#onPolicyError(one, error),
    );
  };

  /** Nobody waits for this decision any more. */
  #end(one: Undecided, reason: CodedError): void {
    this.#counts.refused(reason, this.#about(one));
    this.#undecided.delete(one);
    one.refuse(reason);
    one.record?.end(undefined, reason.code);
    this.#closeIfDone();
  }

  #onPolicyError(one: Undecided, error: Error): void {
    if (one.over) return;
    this.#refuse(one);
    one.record?.end(undefined, (error as CodedError).code ?? error.name);
    publishError(error, this.#about(one));
    process.nextTick(() => this.emit('error', error));
  }

  /** Whom a message on a diagnostics channel is about. */
  #about({ question }: Undecided): { server: RelayServer; client: Endpoint } {
    return { server: this, client: question.client };
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
    if (decisions.hasSubscribers) {
      const { destination: originalDst, first } = one.question;
      decisions.publish({ ...this.#about(one), originalDst, verdict: action, ttl, first });
    }
    if (action === 'emit') {
      this.#hand(one);
    } else if (action === 'reset' || this.#destroyed) {
      this.#remember(one, 'reset', ttl);
      this.#refuse(one);
      one.record?.end('reset', 'reset by verdict');
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
    if (one.proxyHeader) setProxyHeader(socket, one.proxyHeader);
    one.record?.end('emit', 'emitted');
    process.nextTick(() => {
      if (!this.emit('connection', socket as InterceptedSocket)) reset(socket);
    });
    this.#closeIfDone();
  }

  #relay(one: Undecided, decision: ReadDecision): void {
    const { record } = one;
    const joined = this.#tell(one);
    this.#undecided.delete(one);
    const rules = { options: this.#options, limits: this.#limits, place: this.#from!.place };
    const plan = planDial(one, decision, rules);
    if (plan instanceof Error) {
      this.#counts.refused(plan, this.#about(one));
      one.refuse();
      joined?.finish({ reason: 'error', side: 'upstream', error: plan });
      record?.end('relay', plan.code);
      this.#closeIfDone();
      return;
    }
    this.#remember(one, 'relay', decision.ttl, plan.route);
    const began = performance.now();
    const mover = plan.dial((outcome, totals, over) => {
      joined?.finish(outcome);
      this.#counts.end(over, outcome, totals);
      record?.end('relay', outcomeText(outcome), totals, began + totals.durationMs);
      this.#closeIfDone();
    });
    /* c8 ignore next 7 -- no memory for a command to the thread */
    if (typeof mover === 'number') {
      const error = systemError(mover, { syscall: 'relay' });
      joined?.finish({ reason: 'error', error });
      record?.end('relay', error.code);
      this.#closeIfDone();
      return;
    }
    this.#counts.begin(mover);
    joined?.start(mover);
    // Only now: who is told may destroy the relay, or the server.
    if (dials.hasSubscribers || relays.hasSubscribers) {
      const about = { ...this.#about(one), originalDst: one.question.destination, relay: joined };
      if (dials.hasSubscribers) publishDial(about, plan.ways, plan.proxy);
      relays.publish(about);
    }
  }

  /** What somebody may see of a relay, if there is anybody: most of what one costs in JavaScript's memory. */
  #tell({ question }: Undecided): RelayObject | undefined {
    if (this.listenerCount('relay') === 0 && !dials.hasSubscribers && !relays.hasSubscribers)
      return undefined;
    const joined = new RelayObject();
    const { destination, client, first } = question;
    // Ahead of the tick in which a relay that has ended already says so; a throwing listener is the program's.
    process.nextTick(() => this.emit('relay', joined, destination, client, first));
    return joined;
  }

  #remember({ question }: Undecided, action: 'relay' | 'reset', ttl: number, route?: Route): void {
    if (ttl === 0 || this.#state !== 'listening' || question.revocations !== this.#revocations) return;
    this.#listener!.remember(question.destination, question.first, action, ttl, route);
  }
}
