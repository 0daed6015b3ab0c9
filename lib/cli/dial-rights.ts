// May this process dial as it is told to? Told at the start, not by the first connection that fails.
import { once } from 'node:events';
import { createServer } from 'node:net';
import { socketFd } from '../node/socket-fd.ts';
import { setMark, setTransparent } from '../raw-fd.ts';

/**
 * Sets the options on a socket of its own for a moment: the capabilities that /proc shows may be those of another user
 * namespace, and worth nothing here.
 *
 * @throws `EPERM`
 */
export async function checkDialRights(mark: number | undefined, foreignSource: boolean): Promise<void> {
  if (mark === undefined && !foreignSource) return;
  const server = createServer().listen(0, '0.0.0.0');
  await once(server, 'listening');
  try {
    const fd = socketFd(server)!;
    if (mark !== undefined) setMark(fd, mark);
    if (foreignSource) setTransparent(fd);
  } finally {
    server.close();
  }
}
