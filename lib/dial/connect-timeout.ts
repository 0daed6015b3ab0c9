// How long connecting may take.
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { systemError } from '../errors.ts';

const { ETIMEDOUT } = constants.errno;

/** In milliseconds. */
export const CONNECT_TIMEOUT = 10_000;

/**
 * Ends a socket that net.connect() has just returned with ETIMEDOUT when an address has not answered for so long; each
 * address of a name has its own time. `address` is the one that is dialled at once, undefined for a name.
 */
export function limitConnecting(socket: Socket, limit: number, port: number, address?: string): void {
  if (limit === 0) return;
  let timer: NodeJS.Timeout | undefined;
  const begin = (dialled: string): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      socket.destroy(systemError(-ETIMEDOUT, { syscall: 'connect', address: dialled, port }));
    }, limit);
    // It is the socket that keeps the program going, or does not.
    timer.unref();
  };
  if (address !== undefined) begin(address);
  // Not every runtime has both.
  socket.on('lookup', (error: Error | null, found: string) => {
    if (!error) begin(found);
  });
  socket.on('connectionAttempt', begin);
  const stop = (): void => clearTimeout(timer);
  socket.once('connect', stop);
  socket.once('close', stop);
}
