// What the kernel has against a connection that Node calls ended.
import type { Socket } from 'node:net';
import { binding } from '../binding.ts';
import { systemError, type SystemError } from '../errors.ts';
import { withFd } from './socket-fd.ts';

/**
 * `getsockopt(SO_ERROR)`, to be asked at `'end'`. Where the last bytes and a RST are there when libuv looks, it reads the
 * bytes, sees that the connection is over (POLLHUP) and says that it has ended, as if there had been a FIN. The error is
 * left in the socket.
 *
 * Undefined: there is none. Or nobody can say: no descriptor, or no binary, without which streams relay too.
 */
export function untoldError(socket: Socket): SystemError | undefined {
  let errno: number | undefined;
  try {
    errno = withFd(socket, (fd) => binding().takeError(fd));
  } catch {
    return undefined;
  }
  return errno ? systemError(-errno, { syscall: 'read' }) : undefined;
}
