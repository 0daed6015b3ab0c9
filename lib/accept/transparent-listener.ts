// IP_TRANSPARENT on a listening socket, set between Node's bind(2) and listen(2).
import type { Server } from 'node:net';
import { constants } from 'node:os';
import { binding } from '../binding.ts';
import { codedError, systemError } from '../errors.ts';
import { listenHandle, withHandleFd } from '../node/socket-fd.ts';

/** The part of Node's internal listening handle that is used here. */
interface ListenHandle {
  listen?: (backlog: number) => number;
}

function setOnHandle(handle: unknown): Error | undefined {
  const status = withHandleFd(handle, (fd) => binding().setTransparent(fd, true));
  if (status === undefined) {
    return codedError(
      'ERR_TRANSPARENT_SHARED',
      'transparent: the listening socket belongs to the cluster’s primary',
      {
        hint: 'listen with `exclusive: true`, or set cluster.schedulingPolicy = cluster.SCHED_NONE in the primary',
      },
    );
  }
  return status === 0 ? undefined : systemError(status, { syscall: 'setsockopt', option: 'IP_TRANSPARENT' });
}

/**
 * `setsockopt(IP_TRANSPARENT)` on a server's socket between bind(2) and listen(2), whatever form of
 * `server.listen` makes it, also when the host name is looked up first.
 *
 * Node has no hook there, so `_handle` becomes an accessor: Node stores the bound handle in it and then calls its
 * listen(). Doing it at `'listening'` instead leaves a gap in which a TPROXY rule finds a listener that it must
 * not use, and the client gets RST. A refusal goes the way of any failed listen: the handle is closed and the
 * server emits `'error'`.
 *
 * @returns takes the reason of the last refusal, which is to stand in the place of the error that Node emits
 * @throws the reason itself, when the server listens already
 */
export function makeTransparent(server: Server): () => Error | undefined {
  let current = listenHandle(server) as ListenHandle | null;
  if (current) {
    const error = setOnHandle(current);
    if (error) throw error;
  }

  let refusal: Error | undefined;
  Object.defineProperty(server, '_handle', {
    configurable: true,
    enumerable: true,
    get: () => current,
    set: (handle: ListenHandle | null) => {
      current = handle;
      if (!handle) return;
      refusal = setOnHandle(handle);
      if (refusal) handle.listen = () => -constants.errno.EPERM;
    },
  });

  return () => {
    const reason = refusal;
    refusal = undefined;
    return reason;
  };
}
