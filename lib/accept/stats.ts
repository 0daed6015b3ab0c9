// What a server counts of the connections that it accepts, and says of them on the diagnostics channels.
import type { CodedError } from '../errors.ts';
import { warnOfLoop } from '../policy/own-dials.ts';
import { countRefusal } from '../policy/refusal.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { connections, publishError } from './channels.ts';

/** What an intercepted server has accepted so far. */
export interface InterceptStats {
  redirect: number;
  tproxy: number;
  ebpf: number;
  proxy: number;
  direct: number;
  unknown: number;
  /** Answered with RST: they never reached a handler. */
  reset: number;
  /** Causes of `unknown` by their code: `{ ENOENT: 2 }`. */
  errors: Record<string, number>;
  /** Connections that were not dialled on, by the error's code: `{ ERR_INTERCEPT_LOOP: 1 }`. */
  refused: Record<string, number>;
}

export function newInterceptStats(): InterceptStats {
  return {
    redirect: 0,
    tproxy: 0,
    ebpf: 0,
    proxy: 0,
    direct: 0,
    unknown: 0,
    reset: 0,
    errors: {},
    refused: {},
  };
}

/** Counts a connection, and publishes it with `about`: the server, and what there is of the connection. */
export function countConnection(stats: InterceptStats, originalDst: OriginalDst, about: object): void {
  stats[originalDst.kind]++;
  if (originalDst.kind === 'unknown') {
    const { cause } = originalDst;
    stats.errors[cause.code!] = (stats.errors[cause.code!] ?? 0) + 1;
    publishError(cause, about);
  }
  if (connections.hasSubscribers) connections.publish({ ...about, originalDst });
}

/** Counts a connection that is refused before anything is known of it, and says so. */
export function countRefused(stats: InterceptStats, error: CodedError, about: object): void {
  countRefusal(stats.refused, error);
  stats.reset++;
  publishError(error, about);
}

/** Counts a connection that is refused because this program has dialled it, and says so. */
export function countLoop(stats: InterceptStats, error: CodedError, about: object): void {
  countRefusal(stats.refused, error);
  publishError(error, about);
  warnOfLoop(error);
}
