// How long a relay waits for what: the options that relay() and createRelayServer() have in common.
import { checkInteger, MAX_MS } from '../arguments.ts';
import { CONNECT_TIMEOUT } from '../dial/connect-timeout.ts';

/** In milliseconds; 0: none. */
export interface RelayTimeouts {
  /**
   * Ends a relay in which no byte has moved for so long. Default 7,440,000 (2 hours 4 minutes): what RFC 5382 demands
   * of a middlebox at least, because TCP's own keep-alive is heard from every two hours.
   */
  idleTimeout?: number;
  /**
   * The same once one direction has ended, if it is shorter. Default 240,000 (4 minutes, RFC 5382). Conntrack forgets
   * a half-closed connection after one to two minutes of silence, and a redirected one is cut with that.
   */
  halfCloseTimeout?: number;
  /**
   * How long connecting to the upstream may take: then it is an error `ETIMEDOUT`, and the client is sent RST. Default
   * 10,000; 0: as long as the kernel tries, two minutes.
   */
  connectTimeout?: number;
  /**
   * SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT: a peer that has sent nothing for so long, and does not
   * answer the kernel's probes in the second half of it, is gone without a word: `ETIMEDOUT`. Counted in whole seconds.
   * Default 120,000. The relay's engine sets it on a connection that has lived for half of this time.
   */
  deadPeerTimeout?: number;
}

/** {@link RelayTimeouts}, all of them known. */
export interface RelayLimits {
  readonly idle: number;
  readonly halfClose: number;
  readonly connect: number;
  readonly deadPeer: number;
  /** For the addon: struct RelayLimits of src/relay/relay.h. */
  readonly words: Uint32Array;
}

/** Those that were read last: most programs have the same for all of their relays. */
let last: RelayLimits | undefined;

/** Throws unless all are whole numbers of milliseconds. */
export function readTimeouts(options: RelayTimeouts): RelayLimits {
  const {
    idleTimeout = 7_440_000,
    halfCloseTimeout = 240_000,
    connectTimeout = CONNECT_TIMEOUT,
    deadPeerTimeout = 120_000,
  } = options;
  if (
    idleTimeout === last?.idle &&
    halfCloseTimeout === last.halfClose &&
    connectTimeout === last.connect &&
    deadPeerTimeout === last.deadPeer
  )
    return last;
  const timeouts = { idleTimeout, halfCloseTimeout, connectTimeout, deadPeerTimeout };
  for (const [name, value] of Object.entries(timeouts)) checkInteger(`options.${name}`, value, 0, MAX_MS);
  last = {
    idle: idleTimeout,
    halfClose: halfCloseTimeout,
    connect: connectTimeout,
    deadPeer: deadPeerTimeout,
    words: Uint32Array.of(idleTimeout, halfCloseTimeout, connectTimeout, deadPeerTimeout),
  };
  return last;
}
