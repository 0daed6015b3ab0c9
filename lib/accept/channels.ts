// What servers say on the diagnostics channels of the connections that they accept.
import { channel } from 'node:diagnostics_channel';
import type { Server, Socket } from 'node:net';
import type { Endpoint } from '../address.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import type { RelayVerdict } from '../relay/decision.ts';
import type { RelayServer } from '../relay/types.ts';
import type { InterceptedDatagramSocket } from '../udp/types.ts';

/** Whose connection it is. */
export type ConnectionSubject =
  | {
      server: Server;
      socket: Socket;
    }
  | {
      server: RelayServer;
      /** Where it comes from. */
      client: Endpoint;
    };

/** `original-dst:connection`: where a connection was going has been established, or could not be. */
export type ConnectionMessage = ConnectionSubject & { originalDst: OriginalDst };

/** `original-dst:decision`: what becomes of a connection. A lasting verdict is published when it is made. */
export type DecisionMessage = ConnectionMessage & {
  /** Of createServer and intercept: as their options `direct` and `unknown` say. */
  verdict: RelayVerdict;
  /** Of createRelayServer: for how many milliseconds it holds for others too; 0: for this connection alone. */
  ttl: number;
  /** Of createRelayServer with `inspect`: what `decide` was told. */
  first?: FirstBytes | undefined;
};

/**
 * `original-dst:error`: why a destination is not known, why a connection was refused, or what a datagram socket failed
 * at when it read.
 */
export type ErrorMessage = (ConnectionSubject | { socket: InterceptedDatagramSocket }) & { error: Error };

export const connections = channel('original-dst:connection');
export const decisions = channel('original-dst:decision');
export const errors = channel('original-dst:error');

export function publishError(error: Error, about: object): void {
  if (errors.hasSubscribers) errors.publish({ ...about, error });
}
