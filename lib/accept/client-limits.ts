// How many connections of each client a server takes on, and how fast: src/relay/admissions.h for servers of Node's.
import type { Socket } from 'node:net';
import { addressBytes, canonicalAddress, familyOf } from '../address.ts';
import { checkInteger } from '../arguments.ts';
import { codedError, type CodedError } from '../errors.ts';
import { whenUncounted } from '../node/socket-fd.ts';

/**
 * What goes beyond is sent RST as soon as it is accepted, and counted in `refused` by the code that is named with each.
 * 0: no limit, the default. A client is an IPv4 address, or an IPv6 network of 64 bits; behind a proxy that sends headers
 * of the PROXY protocol it is that proxy. How many there may be in all is `server.maxConnections`, as of net.Server.
 */
export interface ClientLimitOptions {
  /** Connections at a time, those that `relay()` has taken over too. `ERR_MAX_PER_CLIENT`. */
  maxPerClient?: number;
  /** New connections in a second; as many may come at once. `ERR_MAX_RATE_PER_CLIENT`. */
  maxRatePerClient?: number;
}

interface Client {
  open: number;
  /** When the next one may come if all come evenly (GCRA), by performance.now(). */
  due: number;
}

const SECOND = 1000;
/** How many clients there are before it is worth looking for those that are gone. */
const FIRST_PRUNE = 1024;

function clientOf(socket: Socket): string {
  const address = canonicalAddress(socket.remoteAddress ?? '') ?? '';
  if (address === '' || familyOf(address) === 'IPv4') return address;
  return addressBytes(address).slice(0, 8).join('.');
}

export class ClientLimits {
  readonly #perClient: number;
  readonly #rate: number;
  readonly #clients = new Map<string, Client>();
  #pruneAt = FIRST_PRUNE;

  /** Undefined where there are no limits. Throws unless both are whole numbers. */
  static read({ maxPerClient = 0, maxRatePerClient = 0 }: ClientLimitOptions): ClientLimits | undefined {
    for (const [name, value] of Object.entries({ maxPerClient, maxRatePerClient }))
      checkInteger(`options.${name}`, value, 0, 2 ** 32 - 1);
    return maxPerClient === 0 && maxRatePerClient === 0
      ? undefined
      : new ClientLimits(maxPerClient, maxRatePerClient);
  }

  private constructor(perClient: number, rate: number) {
    this.#perClient = perClient;
    this.#rate = rate;
  }

  /** How many clients are remembered. */
  get size(): number {
    return this.#clients.size;
  }

  /** Counts a connection until its end, or says why it is refused. */
  admit(socket: Socket, now = performance.now()): CodedError | undefined {
    const key = clientOf(socket);
    const client = this.#clients.get(key) ?? { open: 0, due: 0 };
    if (this.#perClient !== 0 && client.open >= this.#perClient)
      return codedError(
        'ERR_MAX_PER_CLIENT',
        `${socket.remoteAddress} has ${client.open} connections already`,
      );
    if (this.#rate !== 0) {
      const interval = SECOND / this.#rate;
      const due = Math.max(client.due, now);
      if (due - now > SECOND - interval)
        return codedError('ERR_MAX_RATE_PER_CLIENT', `${socket.remoteAddress} connects too often`);
      client.due = due + interval;
    }
    client.open++;
    this.#clients.set(key, client);
    if (this.#clients.size >= this.#pruneAt) this.#prune(now);
    whenUncounted(socket, () => client.open--);
    return undefined;
  }

  #prune(now: number): void {
    for (const [key, { open, due }] of this.#clients) if (open === 0 && due <= now) this.#clients.delete(key);
    this.#pruneAt = Math.max(FIRST_PRUNE, this.#clients.size * 2);
  }
}
