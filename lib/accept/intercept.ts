// createServer() and intercept(): servers whose connections come with their true destination.
import { createServer as createNetServer, Server, Socket, type ServerOpts } from 'node:net';
import { binding } from '../binding.ts';
import { checkBoolean, invalidType, outOfRange } from '../arguments.ts';
import { codedError, type CodedError } from '../errors.ts';
import { claimPort } from '../policy/loop-guard.ts';
import { ownDialRefusal, setInterceptedPort, setPath, type Origin } from '../policy/own-dials.ts';
import {
  annotate,
  listenerAddress,
  originalDst,
  recoverFromFacts,
  type KnownDst,
  type ListenerAddress,
  type OriginalDst,
  type UnknownDst,
} from '../recover/original-dst.ts';
import { foundOrigin } from '../recover/kernel-answer.ts';
import { Place } from '../recover/place.ts';
import { setProxyHeader } from '../recover/proxy-header.ts';
import { reset } from '../node/reset.ts';
import { foreignRuntimeName, unsupportedRuntime } from '../node/runtime.ts';
import { acceptingServer, listenHandle, withFd } from '../node/socket-fd.ts';
import { decisions } from './channels.ts';
import { checkProxyProtocol, type ProxyProtocolOptions, sendsHeader, takeHeader } from './proxy-protocol.ts';
import { type ClientLimitOptions, ClientLimits } from './client-limits.ts';
import { countConnection, countLoop, countRefused, type InterceptStats, newInterceptStats } from './stats.ts';
import { listenInside, type InterceptListenOptions } from './listen-inside.ts';
import { makeTransparent } from './transparent-listener.ts';

/** What to do with a connection of some kind: hand it to the server's handlers, or send RST and count it. */
export type InterceptVerdict = 'emit' | 'reset';

export interface InterceptOptions<
  Direct extends InterceptVerdict = InterceptVerdict,
  Unknown extends InterceptVerdict = InterceptVerdict,
> extends ClientLimitOptions {
  /** Set IP_TRANSPARENT on the listening socket, for TPROXY rules. Needs CAP_NET_ADMIN or CAP_NET_RAW. Default false. */
  transparent?: boolean;
  /** Connections that nobody redirected. Default `'emit'`. */
  direct?: Direct;
  /** Connections whose destination is not known for certain. Default `'emit'`. */
  unknown?: Unknown;
  /**
   * Connections from these peers begin with a header of the PROXY protocol (`send-proxy` of HAProxy and others), which
   * is taken off: its destination is that of the connection, kind `'proxy'`. A connection without one is sent RST.
   */
  proxyProtocol?: ProxyProtocolOptions;
}

/** The destinations that a server's handlers see: those of a kind that is reset never come to them. */
export type HandledDst<Direct extends InterceptVerdict, Unknown extends InterceptVerdict> =
  | ([Direct] extends ['reset'] ? KnownDst & { kind: 'redirect' | 'tproxy' | 'ebpf' | 'proxy' } : KnownDst)
  | ([Unknown] extends ['reset'] ? never : UnknownDst);

/** An accepted socket with its true destination. */
export type InterceptedSocket<Dst extends OriginalDst = OriginalDst> = Socket & { readonly originalDst: Dst };

/** What {@link intercept} adds to a server. */
export interface Intercepted {
  /** As of net.Server, with the option `namespace`: listen in another network namespace. */
  listen(options: InterceptListenOptions, listener?: () => void): this;
  readonly interceptStats: Readonly<InterceptStats>;
}

/** The `'connection'` event of an {@link InterceptServer}. */
export interface ConnectionEvents<Dst extends OriginalDst = OriginalDst> {
  on(event: 'connection', listener: (socket: InterceptedSocket<Dst>) => void): this;
  once(event: 'connection', listener: (socket: InterceptedSocket<Dst>) => void): this;
  addListener(event: 'connection', listener: (socket: InterceptedSocket<Dst>) => void): this;
  prependListener(event: 'connection', listener: (socket: InterceptedSocket<Dst>) => void): this;
}

/** A net.Server whose `'connection'` listeners get {@link InterceptedSocket}s. */
export type InterceptServer<Dst extends OriginalDst = OriginalDst> = ConnectionEvents<Dst> &
  Server &
  Intercepted;

const intercepted = Symbol.for('original-dst.intercepted');

function checkVerdict(name: string, value: unknown): asserts value is InterceptVerdict | undefined {
  if (value !== undefined && value !== 'emit' && value !== 'reset') {
    throw outOfRange(name, "'emit' or 'reset'", value);
  }
}

function checkServer(server: unknown): asserts server is Server {
  if (server instanceof Server) return;
  const runtime = foreignRuntimeName();
  if (runtime !== undefined && typeof (server as Server | null)?.listen === 'function') {
    throw unsupportedRuntime(
      `intercept: ${runtime} accepts the connections of this kind of server where they cannot be seen`,
      'use createServer(), or Node.js',
    );
  }
  throw invalidType('server', 'an instance of net.Server', server);
}

/** What a server is bound to. Read once per listening handle: asking costs a system call for every connection. */
class ListenerMemo {
  #handle: unknown;
  #address: ListenerAddress | undefined;
  #namespace: number | undefined;
  readonly #server: Server;

  constructor(server: Server) {
    this.#server = server;
  }

  get(): ListenerAddress | undefined {
    this.#read();
    return this.#address;
  }

  /** The number of its network namespace, which its connections have from it; undefined where its descriptor is hidden. */
  get namespace(): number | undefined {
    this.#read();
    return this.#namespace;
  }

  #read(): void {
    const handle = listenHandle(this.#server);
    if (handle === this.#handle) return;
    this.#address = listenerAddress(this.#server);
    this.#namespace = withFd(this.#server, (fd) => binding().namespaceNumber(fd));
    this.#handle = handle;
  }
}

/**
 * `accept(2)`, then `getsockopt(SO_ORIGINAL_DST)`: makes an existing server (net, tls, http, https, http2) find the
 * true destination of each connection before any of its handlers sees it.
 *
 * The server is returned, and is in every other respect as it was: same events, in the same order. In a request
 * handler use `originalDst(request.socket)`.
 *
 * @throws `ERR_INVALID_ARG_TYPE`, `ERR_OUT_OF_RANGE`, `ERR_ALREADY_INTERCEPTED`, `ERR_UNSUPPORTED_PLATFORM`,
 *   `ERR_UNSUPPORTED_RUNTIME` (Bun's http servers), `ERR_BINDING_NOT_LOADED`; with `transparent`, the server emits `'error'` (`EPERM`) in place of `'listening'`.
 * Capability: none; CAP_NET_ADMIN or CAP_NET_RAW for `transparent`.
 */
export function intercept<S extends Server>(server: S, options: InterceptOptions = {}): S & Intercepted {
  checkServer(server);
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  const { transparent = false, direct = 'emit', unknown = 'emit', proxyProtocol } = options;
  checkBoolean('options.transparent', transparent);
  checkVerdict('options.direct', direct);
  checkVerdict('options.unknown', unknown);
  checkProxyProtocol(proxyProtocol);
  const limits = ClientLimits.read(options);
  if (intercepted in server)
    throw codedError('ERR_ALREADY_INTERCEPTED', 'This server is intercepted already');
  binding(); // a missing binary is the caller's error, now, and not the first client's

  listenInside(server);
  const takeRefusal = transparent ? makeTransparent(server) : undefined;

  const stats = newInterceptStats();
  const verdicts = {
    redirect: 'emit',
    tproxy: 'emit',
    ebpf: 'emit',
    proxy: 'emit',
    direct,
    unknown,
  } as const;
  const listener = new ListenerMemo(server);
  const boundTo = (): ListenerAddress | undefined => listener.get();

  /** Finds out where an accepted connection was going; undefined for one that is not from accept(2). */
  const recover = (
    socket: Socket,
    named?: KnownDst,
  ): { decided: OriginalDst; origin: Origin } | undefined => {
    const acceptedBy = acceptingServer(socket);
    // Compared with the listener that accepted it, which is another one's when the program handed it on to us.
    const ours = acceptedBy === server;
    const where = ours ? boundTo : () => listenerAddress(acceptedBy);
    const found = withFd(socket, (fd) => {
      const status = binding().readFacts(fd, listener.get()?.port ?? 0);
      const place = new Place(fd, ours ? listener.namespace : undefined);
      return { decided: recoverFromFacts(status, where, place), origin: foundOrigin() };
    });
    if (found === undefined) return undefined;
    if (named) found.decided = named;
    annotate(socket, found.decided);
    return found;
  };

  /** Returns false when no handler is to see the socket. */
  const judge = (socket: Socket, decided: OriginalDst, origin: Origin): boolean => {
    countConnection(stats, decided, { server, socket });
    const loop = origin === 0 ? undefined : ownDialRefusal(origin, decided, listener.get()!.port);
    if (loop) {
      countLoop(stats, loop, { server, socket });
    } else {
      if (origin > 0) setPath(socket, origin);
      const verdict = verdicts[decided.kind];
      if (decisions.hasSubscribers)
        decisions.publish({ server, socket, originalDst: decided, verdict, ttl: 0 });
      if (verdict === 'emit') return true;
    }
    stats.reset++;
    reset(socket);
    return false;
  };

  const refuse = (socket: Socket, error: CodedError): void => {
    countRefused(stats, error, { server, socket });
    reset(socket);
  };

  /** The handlers see the socket when its header has been read; it is annotated then, and not read again. */
  const awaitHeader = (socket: Socket, timeout: number): void => {
    takeHeader(socket, timeout, (header) => {
      if (header instanceof Error) {
        refuse(socket, header);
        return;
      }
      setProxyHeader(socket, header);
      const { destination } = header;
      const found = recover(socket, destination && { ...destination, kind: 'proxy' });
      // The client may have gone in that tick.
      if (found && judge(socket, found.decided, found.origin)) server.emit('connection', socket);
    });
  };

  /** Returns false when no handler is to see the socket, or not yet. */
  const accept = (socket: Socket): boolean => {
    const ours = acceptingServer(socket) === server;
    const known = originalDst(socket);
    // A handler looked at the first bytes and emitted it once more, or another server's did.
    if (known !== undefined) return ours || judge(socket, known, 0);
    const refusal = ours ? limits?.admit(socket) : undefined;
    if (refusal) {
      refuse(socket, refusal);
      return false;
    }
    const sends = ours && proxyProtocol ? sendsHeader(proxyProtocol, socket) : false;
    if (sends instanceof Error) {
      refuse(socket, sends);
      return false;
    }
    if (sends) {
      awaitHeader(socket, proxyProtocol!.timeout ?? 5000);
      return false;
    }
    const found = recover(socket);
    return found === undefined || judge(socket, found.decided, found.origin);
  };

  let releaseClaim: (() => void) | undefined;
  const release = (): void => {
    releaseClaim?.();
    releaseClaim = undefined;
  };
  const claim = (): void => {
    release(); // a server that listens again while it has connections does not emit 'close' in between
    const port = listener.get()?.port;
    if (port === undefined) return;
    // Where its descriptor is hidden it is the primary's, of this program's namespace.
    releaseClaim = claimPort(port, new Place(-1, listener.namespace));
    setInterceptedPort(server, port);
  };

  // Over `emit` and not by a listener: a listener is seen by listenerCount(), can be overtaken by
  // prependListener(), and cannot keep a socket from the others. Only an `emit` of the server's own is kept: that of
  // its prototype is looked up for each event, because tracers and node:domain put theirs there at any time.
  const own = Object.hasOwn(server, 'emit') ? server.emit : undefined;
  const emitIntercepted = function (this: S, event: string, ...args: unknown[]): boolean {
    if (event === 'connection' && args[0] instanceof Socket && !accept(args[0])) return true;
    if (event === 'error' && takeRefusal) args[0] = takeRefusal() ?? args[0];
    if (event === 'listening') claim();
    else if (event === 'close') release();
    const emit = own ?? (Object.getPrototypeOf(server) as S).emit;
    return Reflect.apply(emit, this, [event, ...args]) as boolean;
  };
  Object.defineProperty(server, 'emit', { value: emitIntercepted, writable: true, configurable: true });
  Object.defineProperty(server, 'interceptStats', { value: stats, enumerable: true });
  Object.defineProperty(server, intercepted, { value: true });
  if (server.listening) claim();
  return server as S & Intercepted;
}

/**
 * `net.createServer()` whose `'connection'` listeners get sockets with `originalDst`. With `direct: 'reset'` or
 * `unknown: 'reset'` the type of it knows that these kinds do not come.
 *
 * @param options those of net.createServer, and {@link InterceptOptions}
 * @throws as {@link intercept} and net.createServer
 */
export function createServer<
  Direct extends InterceptVerdict = 'emit',
  Unknown extends InterceptVerdict = 'emit',
>(
  options?: ServerOpts & InterceptOptions<Direct, Unknown>,
  listener?: (socket: InterceptedSocket<HandledDst<Direct, Unknown>>) => void,
): InterceptServer<HandledDst<Direct, Unknown>>;
export function createServer(listener?: (socket: InterceptedSocket) => void): InterceptServer;
export function createServer(
  options?: (ServerOpts & InterceptOptions) | ((socket: InterceptedSocket<never>) => void),
  listener?: (socket: InterceptedSocket<never>) => void,
): Server & Intercepted {
  const [settings, handler] = typeof options === 'function' ? [{}, options] : [options, listener];
  return intercept(createNetServer(settings, handler as ((socket: Socket) => void) | undefined), settings);
}
