// relay(): joins two sockets, or a socket and a destination.
import { Socket } from 'node:net';
import { binding } from '../binding.ts';
import { checkSignal, invalidType, outOfRange } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { readDestination, type RelayDestination, type RelayDialOptions } from './destination.ts';
import { foreignRuntime, refusal } from './handover.ts';
import type { Relay } from './relay-object.ts';
import { isTaken, sidesOf, SocketRelay } from './socket-relay.ts';
import { readTimeouts, type RelayTimeouts } from './timeouts.ts';

export interface RelayOptions extends RelayTimeouts {
  /** Aborting it is `destroy()`. */
  signal?: AbortSignal;
  /**
   * Who moves the bytes.
   * - `native` (default): a thread of the addon, with splice(2); an error where that is not possible.
   * - `pipe`: Node's streams.
   * - `any`: native where possible, else streams.
   */
  engine?: 'native' | 'pipe' | 'any';
}

export interface RelayToOptions extends RelayOptions {
  /** How to dial: as {@link connect}. */
  dial?: RelayDialOptions;
}

/**
 * `splice(2)` from each socket to the other in a thread of the addon, until both have ended: joins an accepted
 * connection with the one that was dialled for it, and takes the bytes out of JavaScript's hands.
 *
 * The sockets are the relay's from now on: what they have read or were given back by `unshift()` is sent first, what
 * was written to them is finished first, an upstream that is still connecting is waited for; `'data'` and
 * `'readable'` listeners are removed, and the socket objects close as soon as the thread has the connections.
 * The server that accepted one of them counts it until the relay has ended: `maxConnections`, `server.close()`.
 * FIN is passed on as FIN, RST as RST, an urgent byte (MSG_OOB) as urgent. Both connections get TCP_NODELAY.
 *
 * @returns a {@link Relay}: live byte counters, `destroy()`, and `'close'` with a {@link RelayOutcome}. What the
 *   network does, also to a socket that is gone already, is an outcome and never an exception.
 * @throws `ERR_RELAY_TLS`, `ERR_RELAY_NO_FD`, `ERR_RELAY_DECODED`, `ERR_UNSUPPORTED_RUNTIME` (unless `engine` is
 *   `'any'` or `'pipe'`), `ERR_RELAY_BUSY`, argument errors, `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`
 * Capability: none. Costs two descriptors for each relay, and two for each pipe while bytes are in flight (128 pipes
 * a thread; without one the bytes are copied). Source: splice(2), epoll(7), tcp(7).
 */
export function relay(client: Socket, upstream: Socket, options?: RelayOptions): Relay;
/**
 * The same with an upstream that is still to be dialled: `connect(2)` by the addon, for which no socket object is made.
 * Half of what a relayed connection costs is saved by that.
 *
 * It is dialled when the client is ready, on its behalf: `ERR_INTERCEPT_LOOP` where that leads back to a listener that
 * the client has come through. What a dial ends in is an outcome of the upstream's side, and the client is sent RST:
 * the system errors of {@link connect}, `ERR_EGRESS_DENIED`.
 *
 * @param destination an IP address and port, as `client.originalDst` is where it is known
 * @throws as above, and `ERR_INVALID_ARG_VALUE` for a host name, or an address and a `source` of different families
 * Capability: CAP_NET_ADMIN or CAP_NET_RAW for `transparent` and `mark`. Costs, dials and sources as above.
 */
export function relay(client: Socket, destination: RelayDestination, options?: RelayToOptions): Relay;
export function relay(
  client: Socket,
  upstream: Socket | RelayDestination,
  options: RelayToOptions = {},
): Relay {
  if (!(client instanceof Socket)) throw invalidType('client', 'an instance of net.Socket', client);
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  const { signal, engine: which = 'native', dial } = options;
  if (dial !== undefined && upstream instanceof Socket) {
    throw codedError(
      'ERR_INVALID_ARG_VALUE',
      '"options.dial" is for an address that is still to be dialled',
      {
        base: TypeError,
      },
    );
  }
  const to = upstream instanceof Socket ? undefined : readDestination(upstream, dial);
  const limits = readTimeouts(options);
  checkSignal('options.signal', signal);
  if (which !== 'native' && which !== 'pipe' && which !== 'any') {
    throw outOfRange('options.engine', "'native', 'pipe' or 'any'", which);
  }
  const sockets = sidesOf(client, upstream instanceof Socket ? upstream : undefined);
  for (const [side, socket] of sockets) {
    if (isTaken(socket) || client === upstream)
      throw codedError('ERR_RELAY_BUSY', `relay: ${side} is part of a relay already`);
  }
  const foreign = which === 'pipe' ? undefined : foreignRuntime();
  if (which === 'native') {
    for (const [side, socket] of sockets) {
      const error = foreign ?? refusal(side, socket);
      if (error) throw error;
    }
    binding();
  }
  return new SocketRelay(sockets, to, limits, foreign === undefined ? which : 'pipe', signal);
}
