import { closeSync } from 'node:fs';
import { lookup as dnsLookup } from 'node:dns';
import { Socket, type LookupFunction } from 'node:net';
import { constants } from 'node:os';
import { canonicalAddress, dialledAddress, familyOf, type Endpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { checkEgress, egressRefusal, type EgressPolicy } from '../policy/egress.ts';
import { dialError } from './dial-error.ts';
import { checkBoolean, checkInteger, invalidType } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { foreignRuntimeName } from '../node/runtime.ts';
import { adoptFd, retryConnect } from '../node/socket-fd.ts';

const { EADDRINUSE, EADDRNOTAVAIL } = constants.errno;

/** Where a connection comes from. */
export interface Source {
  /** A literal IP address, of this host or, with `transparent` or `freebind`, of another. */
  address: string;
  /** 0 or absent: the kernel chooses one that is free towards the destination. */
  port?: number;
}

/** How a dial is made; every option that is left out is left to the kernel. */
export interface DialOptions {
  source?: Source;
  /** When `source.port` is in use towards this destination, take another. Default false: the dial fails. */
  portFallback?: boolean;
  /** IP_TRANSPARENT: `source.address` may be a foreign one, and answers to it are received. */
  transparent?: boolean;
  /** IP_FREEBIND: `source.address` may be one that this host does not have (yet). */
  freebind?: boolean;
  /** SO_MARK, 0 to 2³² − 1: for policy routes, and for rules that exempt the proxy's own connections. */
  mark?: number;
  /** SO_BINDTODEVICE: use this network interface only. */
  interface?: string;
  /** Which destinations may be dialled; others end in `ERR_EGRESS_DENIED`. */
  egress?: EgressPolicy;
  /** Destroys the socket with an AbortError. */
  signal?: AbortSignal;
  /** As of net.connect: `'timeout'` after so many milliseconds without activity, connecting included. */
  timeout?: number;
  /** As of net.connect: the writable side stays open after the peer's FIN. Default false. */
  allowHalfOpen?: boolean;
}

export interface ConnectOptions extends DialOptions {
  /** A literal IP address or a host name; the first address that dns.lookup gives for the name is dialled. */
  address: string;
  port: number;
}

function checkString(name: string, value: unknown): asserts value is string {
  if (typeof value !== 'string' || value === '') throw invalidType(name, 'a non-empty string', value);
}

function checkSource(source: unknown): asserts source is Source {
  if (typeof source !== 'object' || source === null)
    throw invalidType('options.source', 'of type object', source);
  const { address, port = 0 } = source as Source;
  checkString('options.source.address', address);
  if (canonicalAddress(address) === undefined)
    throw invalidType('options.source.address', 'a literal IP address', address);
  checkInteger('options.source.port', port, 0, 65535);
}

/** Throws unless these can be used as options of a dial. */
export function checkDialOptions(options: unknown): asserts options is DialOptions {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  const dial = options as DialOptions;
  if (dial.source !== undefined) checkSource(dial.source);
  for (const name of ['portFallback', 'transparent', 'freebind', 'allowHalfOpen'] as const) {
    if (dial[name] !== undefined) checkBoolean(`options.${name}`, dial[name]);
  }
  if (dial.mark !== undefined) checkInteger('options.mark', dial.mark, 0, 2 ** 32 - 1);
  if (dial.interface !== undefined) checkString('options.interface', dial.interface);
  checkEgress('options.egress', dial.egress);
}

/** The socket for one dial, or the error. `over`: put it in the place of this fd. */
function openSocket(
  family: Endpoint['family'],
  options: DialOptions,
  port: number,
  over = -1,
): number | Error {
  const { source, transparent = false, freebind = false, mark = null, interface: device = null } = options;
  const opened = binding().openDialSocket(
    family === 'IPv4' ? 4 : 6,
    source?.address ?? null,
    port,
    transparent,
    freebind,
    mark,
    device,
    over,
  );
  if (typeof opened === 'number') return opened;
  const [errno, step] = opened;
  return dialError(errno, step, source === undefined ? {} : { source: { address: source.address, port } });
}

/** Gives a socket that is about to connect to `address` the fd with everything set, or destroys it. */
function prepare(socket: Socket, address: string, options: ConnectOptions): void {
  const { portFallback = false, source } = options;
  const refusal = egressRefusal(options.egress, { address, port: options.port });
  if (refusal) {
    socket.destroy(refusal);
    return;
  }
  if (!isSpecial(options)) return;
  const family = familyOf(address);
  const port = source?.port ?? 0;
  let opened = openSocket(family, options, port);
  if (portFallback && opened instanceof Error && (opened as NodeJS.ErrnoException).errno === -EADDRINUSE)
    opened = openSocket(family, options, 0);
  if (opened instanceof Error) {
    socket.destroy(opened);
    return;
  }
  const fd = opened;
  if (!adoptFd(socket, fd)) {
    closeSync(fd);
    socket.destroy(unsupportedRuntime());
    return;
  }
  // bind(2) passes when another socket has the port for another destination (SO_REUSEADDR); connect(2) is where a
  // taken tuple shows, and by then Node's stream owns the fd: a fresh socket goes under the same number.
  if (portFallback && port !== 0)
    retryConnect(socket, -EADDRNOTAVAIL, () => openSocket(family, options, 0, fd) === fd);
}

/** Does the socket need anything that net.connect cannot do? */
function isSpecial({ source, transparent, freebind, mark, interface: device }: DialOptions): boolean {
  return (
    source !== undefined ||
    mark !== undefined ||
    device !== undefined ||
    transparent === true ||
    freebind === true
  );
}

function unsupportedRuntime(): Error {
  return codedError(
    'ERR_UNSUPPORTED_RUNTIME',
    'This runtime makes the sockets of connections itself, so that neither source nor mark can be guaranteed',
    { hint: 'use Node.js' },
  );
}

/**
 * `socket(2)`, `setsockopt(2)`, `bind(2)`, `connect(2)`: net.connect with a source address that may be foreign, a
 * mark, an interface.
 *
 * Returns at once a net.Socket that behaves as net.connect's: `connecting`, queued writes, `'connect'`,
 * `ECONNREFUSED` with address and port. Without a source port the kernel chooses it as late as it can
 * (IP_BIND_ADDRESS_NO_PORT), so that one port serves many destinations.
 *
 * What the system refuses comes as `'error'`: `EPERM` (setsockopt IP_TRANSPARENT or SO_MARK), `EADDRNOTAVAIL`
 * (bind: not this host's address; connect: source port in use towards this destination), `EADDRINUSE` (bind),
 * `ENODEV` (setsockopt SO_BINDTODEVICE), `ERR_EGRESS_DENIED`.
 *
 * @throws argument errors, `ERR_UNSUPPORTED_RUNTIME`, `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`
 * Capability: CAP_NET_ADMIN or CAP_NET_RAW for `transparent` and `mark`. Source: ip(7), socket(7), tcp(7).
 */
export function connect(options: ConnectOptions): Socket {
  checkDialOptions(options);
  checkString('options.address', options.address);
  checkInteger('options.port', options.port, 0, 65535);
  const literal = canonicalAddress(options.address);
  const { port, signal, timeout, allowHalfOpen = false } = options;
  const source = options.source && {
    ...options.source,
    address: canonicalAddress(options.source.address)!,
  };
  const sourceFamily = source && familyOf(source.address);
  if (literal !== undefined && source !== undefined && familyOf(literal) !== sourceFamily) {
    throw codedError(
      'ERR_INVALID_ARG_VALUE',
      `An ${familyOf(literal)} address cannot be dialled from an ${sourceFamily} source: ${literal} from ${source.address}`,
      { base: TypeError },
    );
  }
  if (isSpecial(options)) {
    // Bun and Deno accept a prepared fd and ignore it: they would dial from the wrong address without a word.
    if (foreignRuntimeName() !== undefined) throw unsupportedRuntime();
    binding(); // a missing binary is the caller's error, now
  }
  const dial: ConnectOptions = source === undefined ? options : { ...options, source };

  const socket = new Socket({ allowHalfOpen, ...(signal === undefined ? {} : { signal }) });
  // It ends in 'error' and 'close' by itself; net.connect of Node 20 would connect it all the same after those.
  if (signal?.aborted) return socket;
  if (timeout !== undefined) socket.setTimeout(timeout);
  const lookup: LookupFunction = (name, _options, callback) => {
    const family = sourceFamily === undefined ? 0 : sourceFamily === 'IPv4' ? 4 : 6;
    dnsLookup(name, { family }, (error, found) => {
      if (error) {
        callback(error, found);
        return;
      }
      const address = canonicalAddress(found)!;
      if (!socket.destroyed) prepare(socket, address, dial);
      callback(null, dialledAddress(address), familyOf(address) === 'IPv6' ? 6 : 4);
    });
  };
  // One address, one attempt: a second attempt (autoSelectFamily) would be made with a socket of Node's own.
  const host = literal === undefined ? options.address : dialledAddress(literal);
  socket.connect({ host, port, lookup, autoSelectFamily: false });
  // Node made the handle in that call, and will connect it in the next tick.
  if (literal !== undefined && !socket.destroyed) prepare(socket, literal, dial);
  return socket;
}
