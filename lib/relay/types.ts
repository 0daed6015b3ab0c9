// The public types of servers that relay.
import type { EventEmitter } from 'node:events';
import type { InterceptedSocket } from '../accept/intercept.ts';
import type { Endpoint } from '../address.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { DrainOptions } from './draining.ts';
import type { RelayListenOptions, RevokedVerdicts } from './listener.ts';
import type { ConnectionRecord } from './records.ts';
import type { Relay } from './relay-object.ts';
import type { RelayServerStats } from './server-stats.ts';

/** The events of a {@link RelayServer}. */
export interface RelayServerEvents {
  listening: [];
  close: [];
  error: [error: Error];
  connection: [socket: InterceptedSocket];
  records: [records: ConnectionRecord[]];
  relay: [relay: Relay, destination: OriginalDst, client: Endpoint, first: FirstBytes | undefined];
}

/** An intercepting server that relays. Made by {@link createRelayServer}. */
export interface RelayServer extends EventEmitter<RelayServerEvents>, AsyncDisposable {
  /**
   * `bind(2)`, `listen(2)`: once. `'listening'` follows, or `'error'`.
   *
   * @param port 0: any that is free
   * @param host a literal IP address of this host; default: all of both families
   */
  listen(port?: number, host?: string): this;
  listen(options: RelayListenOptions): this;

  /** Where it listens; null while it does not. */
  address(): Endpoint | null;

  /**
   * The listening descriptor while it listens, else undefined. It stays this server's: pass it to the next start of the
   * program (`stdio` of `spawn()`), which listens with `{ fd }`, and `drain()`. Unlike with `reusePort` both have one
   * queue then, and nothing is in it that only one of them could accept.
   */
  readonly fd: number | undefined;

  /** Live numbers, partly read from shared memory. */
  readonly stats: RelayServerStats;

  /**
   * Takes lasting verdicts back: about one destination, one name, or all. Open connections go on. What `decide` has
   * promised and not yet settled was found out before, too: it decides about its own connection and does not last.
   */
  revoke(what?: RevokedVerdicts): this;

  /**
   * Accepts no more. `'close'` follows when every connection has been decided about and every relay has ended; what was
   * given to `'connection'` is not waited for. `callback` is called then, or with an error `ERR_SERVER_NOT_RUNNING`.
   */
  close(callback?: (error?: Error) => void): this;

  /**
   * {@link RelayServer.close} as a promise: fulfilled when it has closed, also if it did not listen.
   *
   * @throws `ERR_DRAIN_ABORTED` ({@link DrainError}) when `signal` is aborted before that: how many are left is in `left`
   */
  drain(options?: DrainOptions): Promise<void>;

  /** As {@link RelayServer.close}, and ends every relay and every connection that is not decided about. */
  destroy(): this;

  /** `close()` as a promise: fulfilled when it has closed, also if it did not listen. */
  [Symbol.asyncDispose](): Promise<void>;
}
