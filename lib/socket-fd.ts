import type { Server, Socket } from 'node:net';
import { checkInteger } from './errors.ts';

/** The part of Node's internal TCP handle that this package reads. */
interface Handle {
  readonly fd?: number;
}

/**
 * The one place that reads Node's private handle. Node has no public way to the fd of an accepted socket or of
 * a listening server; `_handle.fd` has been there, unchanged, from Node 0.9 to 26.
 * Undefined when the socket is closed, or is no socket of the system at all.
 */
export function socketFd(socket: Socket | Server): number | undefined {
  return handleFd((socket as unknown as { _handle?: unknown })._handle);
}

/** The server whose accept(2) made this socket, as Node records it; undefined for a socket that came another way. */
export function acceptingServer(socket: Socket): Server | undefined {
  // Not the `server` property beside it: http writes its own there when a socket is handed to it.
  return (socket as unknown as { _server?: Server | null })._server ?? undefined;
}

/** The handle that a server listens with; another one after each listen(). Null while it does not listen. */
export function listenHandle(server: Server): object | null {
  return (server as unknown as { _handle: object | null })._handle;
}

/** The fd behind a value found in a `_handle` property, if there is one. */
export function handleFd(handle: unknown): number | undefined {
  const fd = (handle as Handle | null | undefined)?.fd;
  return typeof fd === 'number' && fd >= 0 ? fd : undefined;
}

/** Throws unless `fd` can be a file descriptor: a whole number from 0 to 2³¹ − 1. */
export function checkFd(fd: unknown): asserts fd is number {
  checkInteger('fd', fd, 0, 2 ** 31 - 1);
}
