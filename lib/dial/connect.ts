// connect(): net.connect with the source, mark and options that a proxy needs.
import { connect as netConnect, Socket, type LookupFunction } from 'node:net';
import { canonicalAddress, dialledAddress, familyOf } from '../address.ts';
import { binding } from '../binding.ts';
import { checkEgress, egressRefusal, type EgressPolicy } from '../policy/egress.ts';
import { checkBoolean, checkInteger, checkString, invalidType, MAX_MS } from '../arguments.ts';
import { codedError, type CodedError } from '../errors.ts';
import { checkNamespace, type Namespace } from '../namespace/namespace.ts';
import { noteDial, type Path } from '../policy/own-dials.ts';
import { dns } from '../node/on-demand.ts';
import { foreignRuntimeName } from '../node/runtime.ts';
import { socketFd } from '../node/socket-fd.ts';
import { dials, publishDial } from './channel.ts';
import { CONNECT_TIMEOUT, limitConnecting } from './connect-timeout.ts';
import { AdoptedFd, hasFd } from './adopted-fd.ts';
import { isSpecial, noDescriptors, noteAttempts, optionsRefusal, prepareAttempts } from './attempt.ts';

/** Where a connection comes from. */
export interface DialSource {
  /** A literal IP address, of this host or, with `transparent` or `freebind`, of another. */
  address: string;
  /** 0 or absent: the kernel chooses one that is free towards the destination. */
  port?: number;
}

/** How a dial is made; every option that is left out is left to the kernel. */
export interface DialOptions {
  source?: DialSource;
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
  /** Dial in this network namespace. Names are resolved out here all the same. Default: in the calling thread's. */
  namespace?: Namespace;
  /**
   * A TCP socket that the caller has opened, in whatever way and network namespace: bound or not, and if it is connected
   * already, then to this very address. It is the connection's from now on, and closed with it, also when the dial is
   * refused or fails; a call that throws leaves it to the caller. The address must be a literal one; `source`,
   * `transparent`, `mark` and all else that is set before connecting are for whoever opens the socket.
   */
  fd?: number;
  /** Which destinations may be dialled; others end in `ERR_EGRESS_DENIED`. */
  egress?: EgressPolicy;
  /** Destroys the socket with an AbortError. */
  signal?: AbortSignal;
  /**
   * How long an address may take to answer, in milliseconds: then it is an error `ETIMEDOUT`. Each address of a name has
   * this time for itself; looking the name up is not counted. Default 10,000; 0: as long as the kernel tries, two minutes.
   */
  connectTimeout?: number;
  /** As of net.connect: `'timeout'` after so many milliseconds without activity, connecting included. */
  timeout?: number;
  /** As of net.connect: the writable side stays open after the peer's FIN. Default false. */
  allowHalfOpen?: boolean;
}

export interface ConnectOptions extends DialOptions {
  /** A literal IP address, or a host name for dns.lookup. What the egress policy refuses is no address of a name. */
  address: string;
  port: number;
  /**
   * As of net.connect: dial the addresses of a name one after the other, IPv4 and IPv6 by turns, until one answers
   * (Happy Eyeballs, RFC 8305). Default: `net.getDefaultAutoSelectFamily()`. With a `source` only the first address
   * of its family is dialled.
   */
  autoSelectFamily?: boolean;
  /** As of net.connect: after so many milliseconds the next address has its turn. */
  autoSelectFamilyAttemptTimeout?: number;
}

function checkSource(source: unknown): asserts source is DialSource {
  if (typeof source !== 'object' || source === null)
    throw invalidType('options.source', 'of type object', source);
  const { address, port = 0 } = source as DialSource;
  checkString('options.source.address', address);
  if (canonicalAddress(address) === undefined)
    throw invalidType('options.source.address', 'a literal IP address', address);
  checkInteger('options.source.port', port, 0, 65535);
}

/** Throws unless these can be used as options of a dial; whether `fd` can is {@link checkAdoption}'s to say. */
export function checkDialOptions(options: unknown): asserts options is DialOptions {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  const dial = options as DialOptions;
  if (dial.source !== undefined) checkSource(dial.source);
  for (const name of ['portFallback', 'transparent', 'freebind', 'allowHalfOpen'] as const) {
    if (dial[name] !== undefined) checkBoolean(`options.${name}`, dial[name]);
  }
  if (dial.mark !== undefined) checkInteger('options.mark', dial.mark, 0, 2 ** 32 - 1);
  if (dial.connectTimeout !== undefined)
    checkInteger('options.connectTimeout', dial.connectTimeout, 0, MAX_MS);
  if (dial.namespace !== undefined) checkNamespace('options.namespace', dial.namespace);
  if (dial.interface !== undefined) checkString('options.interface', dial.interface);
  checkEgress('options.egress', dial.egress);
}

function numberOf(address: string): 4 | 6 {
  return familyOf(address) === 'IPv4' ? 4 : 6;
}

/** The error of a dial from one family to the other, both addresses in canonical form. */
export function sourceMismatch(destination: string, source: string): CodedError | undefined {
  const [to, from] = [familyOf(destination), familyOf(source)];
  if (to === from) return undefined;
  return codedError(
    'ERR_INVALID_ARG_VALUE',
    `An ${to} address cannot be dialled from an ${from} source: ${destination} from ${source}`,
    { base: TypeError },
  );
}

/** dns.lookup for Node's socket, which gets only those addresses that the egress policy lets through. */
function lookupFor(dialled: () => Socket, options: ConnectOptions): LookupFunction {
  const { port, egress } = options;
  return (name, wanted, callback) => {
    dns().lookup(name, { ...wanted, all: true }, (error, found) => {
      const socket = dialled();
      // Node would emit 'lookup' all the same, after 'close'.
      if (socket.destroyed) return;
      if (error) {
        callback(error, undefined as never);
        return;
      }
      const addresses = found.map(({ address }) => canonicalAddress(address)!);
      const candidates = addresses.filter((address) => !egressRefusal(egress, { address, port, name }));
      const [first] = candidates;
      const refusal =
        first === undefined
          ? egressRefusal(egress, { address: addresses[0]!, port, name })
          : wanted.all && isSpecial(options) && optionsRefusal(familyOf(first), options);
      if (refusal) {
        socket.destroy(refusal);
        return;
      }
      const answers = candidates.map((address) => ({
        address: dialledAddress(address),
        family: numberOf(address),
      }));
      if (wanted.all) callback(null, answers);
      else callback(null, answers[0]!.address, answers[0]!.family);
    });
  };
}

/** The options of net.connect for names that have several addresses. */
function several({ autoSelectFamily, autoSelectFamilyAttemptTimeout }: ConnectOptions): object {
  return {
    ...(autoSelectFamily === undefined ? {} : { autoSelectFamily }),
    ...(autoSelectFamilyAttemptTimeout === undefined ? {} : { autoSelectFamilyAttemptTimeout }),
  };
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
 * `ENODEV` (setsockopt SO_BINDTODEVICE), `ETIMEDOUT` (connect: no answer within `connectTimeout`),
 * `ERR_EGRESS_DENIED`.
 *
 * @throws argument errors, with `fd` `ERR_INVALID_FD_TYPE` and `EBADF`, `ENOTSOCK` (getsockopt); `ERR_UNSUPPORTED_RUNTIME`, `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`
 * Capability: CAP_NET_ADMIN or CAP_NET_RAW for `transparent` and `mark`. Source: ip(7), socket(7), tcp(7).
 */
export function connect(options: ConnectOptions): Socket {
  return told(dial(options, 0), options);
}

/** Says that it is being dialled. */
export function told(socket: Socket, { address, port }: Pick<ConnectOptions, 'address' | 'port'>): Socket {
  if (dials.hasSubscribers) {
    const literal = canonicalAddress(address);
    publishDial({ socket }, [literal === undefined ? { name: address, port } : { address: literal, port }]);
  }
  return socket;
}

/** The same on behalf of a client that has come through the listeners of `path`; `lookup` in place of dns.lookup. */
export function dial(options: ConnectOptions, path: Path, lookup?: LookupFunction): Socket {
  checkDialOptions(options);
  checkString('options.address', options.address);
  checkInteger('options.port', options.port, 0, 65535);
  const literal = canonicalAddress(options.address);
  const { port, signal, timeout, allowHalfOpen = false, connectTimeout = CONNECT_TIMEOUT } = options;
  const source = options.source && {
    ...options.source,
    address: canonicalAddress(options.source.address)!,
  };
  const mismatch = literal !== undefined && source !== undefined && sourceMismatch(literal, source.address);
  if (mismatch) throw mismatch;
  if (isSpecial(options) || options.fd !== undefined) {
    // Bun and Deno accept a prepared fd and ignore it: they would dial from the wrong address without a word.
    if (foreignRuntimeName() !== undefined) throw noDescriptors();
    binding(); // a missing binary is the caller's error, now
  }
  const how: ConnectOptions = source === undefined ? options : { ...options, source };

  const adopted = hasFd(options) ? new AdoptedFd(options, options) : undefined;

  // It ends in 'error' and 'close' by itself; net.connect of Node 20 would connect it all the same after those.
  if (signal?.aborted) {
    adopted?.close();
    return new Socket({ signal });
  }
  const socket: Socket = netConnect({
    host: literal === undefined ? options.address : dialledAddress(literal),
    port,
    allowHalfOpen,
    lookup: lookup ?? lookupFor(() => socket, how),
    ...(signal === undefined ? {} : { signal }),
    ...(timeout === undefined ? {} : { timeout }),
    // With a source the first address of its family and no other, as net.connect with a localAddress.
    ...(source === undefined ? several(options) : { family: numberOf(source.address) }),
  });
  limitConnecting(socket, connectTimeout, port, literal === undefined ? undefined : dialledAddress(literal));
  // Node has made the handle in that call, and will connect it in the next tick or after the look-up.
  const refusal = literal !== undefined && egressRefusal(how.egress, { address: literal, port });
  const note = (fd: number | undefined, address: string): void =>
    noteDial(fd, { address, port }, path, options.transparent === true);
  adopted?.prepare(socket, note);
  if (refusal) socket.destroy(refusal);
  else if (adopted) return socket;
  else if (isSpecial(how)) prepareAttempts(socket, how, note);
  else if (literal !== undefined) process.nextTick(() => note(socketFd(socket), dialledAddress(literal)));
  else noteAttempts(socket, note);
  return socket;
}
