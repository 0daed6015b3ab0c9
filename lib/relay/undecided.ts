// The life of a connection that a relay thread has accepted and nobody has decided about yet.
import type { Endpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { codedError, type CodedError } from '../errors.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import type { Path } from '../policy/own-dials.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { ProxyHeader } from '../recover/proxy-header.ts';
import { type Member, OUTSIDE } from './crowd.ts';
import { engine } from './engine.ts';
import type { NativeMover, OnClose } from './native-mover.ts';
import type { OpenRecord } from './records.ts';
import type { Route } from './route.ts';

/** What a policy may want to know of the connection that it is asked about, beyond its two ends. */
export interface PendingConnection {
  /**
   * Aborted when there is nothing left to decide about: the client has reset the connection (`ERR_CLIENT_GONE`), the
   * decision has taken too long (`ERR_DECISION_TIMEOUT`), or the server was destroyed (`ERR_SERVER_NOT_RUNNING`). The
   * reason says which. A client that has only ended its sending side may be waiting for its answer: it is not gone.
   */
  readonly signal: AbortSignal;
  /** What a proxy in front has said of it (option `proxyProtocol`). */
  readonly proxyHeader: ProxyHeader | undefined;
}

/** What is known of a connection when the policy is asked. */
export interface Question {
  readonly destination: OriginalDst;
  readonly client: Endpoint;
  /** Where they were looked at. */
  readonly first: FirstBytes | undefined;
  /** How many times revoke() had been called. */
  readonly revocations: number;
  /** For a dial that the program makes itself. */
  readonly path: Path;
  /** Whose the connection is to stay; undefined: whichever has the least to do. */
  readonly thread?: number | undefined;
  /** That was taken off. */
  readonly header?: ProxyHeader | undefined;
}

/** Owns the connection's token, and keeps the event loop alive, until one of `refuse`, `take` and `dial`. */
export class Undecided implements PendingConnection, Member {
  readonly question: Question;
  /** Where somebody wants to know what became of it. */
  readonly record: OpenRecord | undefined;
  place = OUTSIDE;
  readonly #token: number;
  #over = false;
  #timer: NodeJS.Timeout | undefined;
  #aborter: AbortController | undefined;
  #reason: CodedError | undefined;

  constructor(token: number, question: Question, record?: OpenRecord) {
    this.record = record;
    this.#token = token;
    this.question = question;
    engine().countAlive(1);
  }

  /** Has it been decided about, or is there nothing left to decide about? */
  get over(): boolean {
    return this.#over;
  }

  get proxyHeader(): ProxyHeader | undefined {
    return this.question.header;
  }

  /** Made when somebody looks: most policies do not. */
  get signal(): AbortSignal {
    this.#aborter ??= new AbortController();
    if (this.#reason) this.#aborter.abort(this.#reason);
    return this.#aborter.signal;
  }

  /** For a decision that takes its time: `onEnd` is called when it is not wanted any more. */
  wait(timeout: number, onEnd: (reason: CodedError) => void): void {
    engine().watch(this.#token, () =>
      onEnd(codedError('ERR_CLIENT_GONE', 'The client has reset the connection before it was decided about')),
    );
    if (timeout === 0) return;
    this.#timer = setTimeout(
      () =>
        onEnd(
          codedError('ERR_DECISION_TIMEOUT', `decide() has not come to a decision in ${timeout} ms`, {
            hint: 'let it answer sooner, or raise `decisionTimeout`',
          }),
        ),
      timeout,
    );
  }

  /** The client is sent RST. `reason`: nobody is to go on thinking about it. */
  refuse(reason?: CodedError): void {
    binding().relayRefuse(this.#token);
    this.#finish();
    this.#reason = reason;
    if (reason) this.#aborter?.abort(reason);
  }

  /** The descriptor, now the caller's. */
  take(): number {
    const fd = binding().relayTake(this.#token);
    this.#finish();
    return fd;
  }

  /** A thread dials and relays. Returns the mover, or the negative errno that prevented it. */
  dial(destination: Endpoint, onClose: OnClose): NativeMover | number {
    const ends = { destination, source: this.question.client };
    const mover = engine().dial(this.#token, ends, onClose, this.question.thread);
    this.#finish();
    return mover;
  }

  /** The same another way. */
  dialRoute(route: Route, onClose: OnClose): NativeMover | number {
    const { client, thread } = this.question;
    const mover = engine().dialRoute(this.#token, route, client, onClose, thread);
    this.#finish();
    return mover;
  }

  #finish(): void {
    this.#over = true;
    clearTimeout(this.#timer);
    engine().unwatch(this.#token);
    engine().countAlive(-1);
  }
}
