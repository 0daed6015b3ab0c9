// One listener for many destinations: hands each connection to the target of its destination.
import { Server, type Socket } from 'node:net';
import { canonicalAddress, familyOf, type Endpoint } from '../address.ts';
import { checkInteger, invalidType } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { recoverOriginalDst } from '../recover/original-dst.ts';

/** Takes connections: a server, which emits `'connection'` with them, or a function. */
export type ConnectionTarget = Server | ((socket: Socket) => void);

/** The destinations of one virtual listener. */
export interface VirtualListenerAddress {
  /** A literal IP address, in any spelling. Absent or `::`: all of both families. `0.0.0.0`: all of IPv4. */
  address?: string;
  port: number;
}

/** Connections that have been handed on, by whatever table. */
const handedOn = new WeakSet<Socket>();

function checkTarget(target: unknown): asserts target is ConnectionTarget {
  if (typeof target !== 'function' && !(target instanceof Server))
    throw invalidType('target', 'a function or an instance of net.Server', target);
}

function checkAddress(name: string, value: unknown): string {
  const canonical = typeof value === 'string' ? canonicalAddress(value) : undefined;
  if (canonical === undefined) throw invalidType(name, 'a literal IP address', value);
  return canonical;
}

/** The table's key for an address, or for one that stands for many. */
function keyOf(address: string, port: number): string {
  return `${address} ${port}`;
}

/**
 * Listeners that listen nowhere: one intercepting server accepts everything and hands each connection to the
 * listener for its original destination, as Envoy's `use_original_dst` does.
 *
 * The order is: this address and port; all addresses of its family at this port; all addresses of both families at
 * this port (where IPv4 destinations count too, as on a dual-stack socket); the default.
 *
 * ```ts
 * const listeners = new VirtualListeners(passThrough)
 *   .add({ port: 80 }, httpServer)
 *   .add({ address: '203.0.113.10', port: 5432 }, database);
 * createServer((socket) => listeners.handOn(socket)).listen(15001);
 * ```
 */
export class VirtualListeners {
  readonly #targets = new Map<string, ConnectionTarget>();
  readonly #default: ConnectionTarget;

  /** @param otherwise takes the connections to all other destinations, and those whose destination is unknown */
  constructor(otherwise: ConnectionTarget) {
    checkTarget(otherwise);
    this.#default = otherwise;
  }

  /** @throws `ERR_ADDRESS_TAKEN` for a second listener at the same address and port, argument errors */
  add(at: VirtualListenerAddress, target: ConnectionTarget): this {
    const key = this.#key(at);
    checkTarget(target);
    if (this.#targets.has(key))
      throw codedError('ERR_ADDRESS_TAKEN', `There is a virtual listener at ${key} already`);
    this.#targets.set(key, target);
    return this;
  }

  /** Takes a listener away; its connections go on. False when there was none. */
  delete(at: VirtualListenerAddress): boolean {
    return this.#targets.delete(this.#key(at));
  }

  /**
   * Who takes connections to this destination? In any spelling of the address.
   *
   * @throws `ERR_INVALID_ARG_TYPE`: no IP address
   */
  find({ address, port }: Pick<Endpoint, 'address' | 'port'>): ConnectionTarget {
    const canonical = checkAddress('destination.address', address);
    const wildcard = keyOf(familyOf(canonical) === 'IPv4' ? '0.0.0.0' : '::', port);
    return (
      this.#targets.get(keyOf(canonical, port)) ??
      this.#targets.get(wildcard) ??
      this.#targets.get(keyOf('::', port)) ??
      this.#default
    );
  }

  /**
   * Hands a connection to the listener for its original destination.
   *
   * Once only: a connection that comes back, because its listener hands on too, goes to that table's default.
   * Otherwise two tables that name each other's servers would pass it between them for ever.
   */
  handOn(socket: Socket): void {
    const destination = recoverOriginalDst(socket);
    const target =
      destination.kind === 'unknown' || handedOn.has(socket) ? this.#default : this.find(destination);
    handedOn.add(socket);
    if (typeof target === 'function') target(socket);
    else target.emit('connection', socket);
  }

  #key({ address = '::', port }: VirtualListenerAddress): string {
    const canonical = checkAddress('at.address', address);
    checkInteger('at.port', port, 0, 65535);
    return keyOf(canonical, port);
  }
}
