// RST in place of FIN.
import type { Socket } from 'node:net';

/** close(2) with SO_LINGER 0: the peer gets RST, and knows that nothing it sent was taken. */
export function reset(socket: Socket): void {
  try {
    socket.resetAndDestroy();
  } catch {
    socket.destroy(); // ERR_INVALID_HANDLE_TYPE: a unix-domain socket, or TLS, has no RST of its own
  }
}
