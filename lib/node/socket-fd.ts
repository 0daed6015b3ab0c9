// The one place that reads Node's private handles: descriptors of sockets and servers.
import { type Server, Socket } from 'node:net';
import type { WriteStream } from 'node:tty';
import { binding } from '../binding.ts';

/** The part of Node's internal TCP handle that this package uses. */
interface Handle {
  readonly fd?: number;
  /** Deno's: a duplicate, to be closed by whoever asked for it. */
  fdForIpc?: () => number;
  open?: (fd: number) => number;
  connect?: ConnectCall;
  connect6?: ConnectCall;
}

/** What Node's handle calls when connect(2) has an answer. */
interface ConnectRequest {
  oncomplete: (
    status: number,
    handle: Handle,
    request: ConnectRequest,
    readable: boolean,
    writable: boolean,
  ) => void;
}

/** Answers 0 or a negative errno. */
type ConnectCall = (...parameters: unknown[]) => number;

/**
 * The one place that reads Node's private handle. Node has no public way to the fd of an accepted socket or of
 * a listening server; `_handle.fd` has been there, unchanged, from Node 0.9 to 26.
 * Undefined when the socket is closed, or is no socket of the system at all.
 */
export function socketFd(socket: Socket | Server): number | undefined {
  return handleFd(handleOf(socket));
}

function handleOf(socket: Socket | Server): Handle | null | undefined {
  return (socket as unknown as { _handle?: Handle | null })._handle;
}

/** The server whose accept(2) made this socket, as Node records it; undefined for a socket that came another way. */
export function acceptingServer(socket: Socket): Server | undefined {
  // Not the `server` property beside it: http writes its own there when a socket is handed to it.
  return (socket as unknown as { _server?: Server | null })._server ?? undefined;
}

/** The part of a server that counts its connections: `maxConnections`, getConnections() and `'close'` go by it. */
interface CountingServer {
  _connections: number;
  _emitCloseIfDrained(): void;
}

/** What is to happen when a connection ends that is counted by somebody else than its server. */
const uncounts = new WeakMap<Socket, () => void>();

/** Calls `uncount` when the connection of an accepted socket ends, whoever has it then; see {@link keepCounted}. */
export function whenUncounted(socket: Socket, uncount: () => void): void {
  uncounts.set(socket, uncount);
  socket.once('close', () => {
    if (uncounts.delete(socket)) uncount();
  });
}

/**
 * Keeps a connection counted by the server that accepted it, although its socket is about to close: somebody else has the
 * connection now. Returns what ends that, to be called once.
 */
export function keepCounted(socket: Socket): () => void {
  const counted = socket as unknown as { _server?: CountingServer | null };
  const server = counted._server;
  if (!server) return () => {};
  const uncount = uncounts.get(socket);
  uncounts.delete(socket);
  counted._server = null; // else the socket takes itself off the count when it closes
  return () => {
    server._connections--;
    server._emitCloseIfDrained();
    uncount?.();
  };
}

/** The socket that a tls.TLSSocket was put over. */
export function underlyingSocket(socket: object): Socket | undefined {
  const parent = (socket as { _parent?: unknown })._parent;
  // Of its kind: with an object in Object.prototype._parent the way down would have no end.
  return parent instanceof Socket ? parent : undefined;
}

/** The socket that accept(2) gave: itself, or the one that TLS was put over. */
export function acceptedUnder(socket: Socket): Socket {
  const under = underlyingSocket(socket);
  return under ? acceptedUnder(under) : socket;
}

/** The handle that a server listens with; another one after each listen(). Null while it does not listen. */
export function listenHandle(server: Server): object | null {
  return (server as unknown as { _handle: object | null })._handle;
}

/**
 * Lets a terminal's stream queue what the terminal does not take. Node makes writes to a terminal wait, and with them
 * everything else, signals too, for as long as somebody has pressed Ctrl-S.
 */
export function neverWait(terminal: WriteStream): void {
  (terminal as unknown as { _handle: { setBlocking: (on: boolean) => number } })._handle.setBlocking(false);
}

/** The fd behind a value found in a `_handle` property, if there is one. */
export function handleFd(handle: unknown): number | undefined {
  const fd = (handle as Handle | null | undefined)?.fd;
  return typeof fd === 'number' && fd >= 0 ? fd : undefined;
}

/**
 * Calls `use` with the fd behind a socket, a server or a handle, and gives its answer; undefined when there is none.
 * `fd` is good for the call alone: Deno has none to show, only a duplicate of it.
 */
export function withFd<T>(socket: Socket | Server, use: (fd: number) => T): T | undefined {
  return withHandleFd(handleOf(socket), use);
}

/** The same for a value found in a `_handle` property. */
export function withHandleFd<T>(handle: unknown, use: (fd: number) => T): T | undefined {
  const fd = handleFd(handle);
  if (fd !== undefined) return use(fd);
  const duplicate = (handle as Handle | null | undefined)?.fdForIpc?.();
  if (duplicate === undefined || duplicate < 0) return undefined;
  try {
    return use(duplicate);
  } finally {
    binding().closeFd(duplicate);
  }
}

/** A connect(2) that Node is about to make. */
export interface Attempt {
  readonly family: 'IPv4' | 'IPv6';
  /** The address that it goes to. */
  readonly to: string;
  /** Makes `fd` the one that is connected, and the socket its owner; false where the runtime does not. */
  adopt(fd: number): boolean;
  /** Makes it: 0 or a negative errno. */
  connect(): number;
  /** The fd that has been connected. */
  fd(): number | undefined;
  /** For an attempt that was answered with 0 and not made: the socket has connected, by the fd that it has adopted. */
  complete(): void;
}

/**
 * Calls `around` in the place of each connect(2) that Node will make for a socket that net.connect() has just
 * returned, and takes its answer, 0 or a negative errno, for that of the call. Several addresses of a name (autoSelectFamily) mean several calls, each on a
 * handle of its own, which Node puts into `_handle`: hence an accessor there.
 *
 * `new net.Socket({ fd })` is the public way to an fd of one's own, but it wants the fd when the socket is made, and
 * before a host name is resolved it is not known whether that is an IPv4 or an IPv6 one.
 */
export function aroundConnect(socket: Socket, around: (attempt: Attempt) => number): void {
  const wrap = (handle: Handle): void => {
    for (const [name, family] of [
      ['connect', 'IPv4'],
      ['connect6', 'IPv6'],
    ] as const) {
      const call = handle[name]!;
      handle[name] = (...parameters) =>
        around({
          family,
          to: parameters[1] as string,
          adopt: (fd) => handle.open?.(fd) === 0 && handle.fd === fd,
          connect: () => Reflect.apply(call, handle, parameters),
          fd: () => handleFd(handle),
          complete: () => {
            const request = parameters[0] as ConnectRequest;
            request.oncomplete(0, handle, request, true, true);
          },
        });
    }
  };
  let current = handleOf(socket);
  wrap(current!);
  Object.defineProperty(socket, '_handle', {
    configurable: true,
    enumerable: true,
    get: () => current,
    set: (handle: Handle | null) => {
      current = handle;
      // Node's own accessor keeps it where Node's streams look.
      Reflect.set(Socket.prototype, '_handle', handle, socket);
      if (handle) wrap(handle);
    },
  });
}
