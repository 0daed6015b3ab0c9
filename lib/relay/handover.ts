// Takes two of Node's sockets out of Node's hands, without losing a byte.
import { Socket } from 'node:net';
import { codedError, type CodedError } from '../errors.ts';
import { foreignRuntimeName, unsupportedRuntime } from '../node/runtime.ts';
import { reset } from '../node/reset.ts';
import { socketFd } from '../node/socket-fd.ts';

/** Bun's and Deno's sockets buffer and close in ways of their own, below anything that could be asked of them. */
export function foreignRuntime(): CodedError | undefined {
  const runtime = foreignRuntimeName();
  if (runtime === undefined) return undefined;
  return unsupportedRuntime(
    `relay: ${runtime} cannot hand its sockets to a native thread`,
    "pass `engine: 'any'` to let streams move the bytes",
  );
}

/** Why a socket can never be handed over, or undefined when it can be, perhaps later. */
export function refusal(name: string, socket: Socket): CodedError | undefined {
  // Not by instanceof, for which the module would have to be loaded.
  if ('encrypted' in socket) {
    return codedError('ERR_RELAY_TLS', `relay: ${name} is a TLS socket, its bytes exist only in JavaScript`, {
      hint: "pass `engine: 'any'` to let streams move them",
    });
  }
  if (socket.readableEncoding !== null) {
    return codedError('ERR_RELAY_DECODED', `relay: ${name} has an encoding, its bytes cannot be had back`, {
      hint: 'do not call setEncoding() on a socket that is to be relayed',
    });
  }
  if (socket.destroyed || socket.connecting || socketFd(socket) !== undefined) return undefined;
  return codedError('ERR_RELAY_NO_FD', `relay: ${name} is not connected, or is no socket of the system`, {
    hint: "connect it first; for a stream that is not a socket pass `engine: 'any'`",
  });
}

/** From here on the bytes are the relay's: nobody else may read them. */
export function stopReaders(socket: Socket): void {
  socket.removeAllListeners('data');
  socket.removeAllListeners('readable');
  socket.pause();
  // A client that sends FIN while the upstream is still being dialled would else be sent FIN by Node.
  socket.allowHalfOpen = true;
}

/** Has the kernel got every byte that was written to the connected socket? */
export function isQuiet(socket: Socket): boolean {
  return !socket.connecting && socket.writableLength === 0 && !socket.destroyed;
}

/**
 * Calls `next` once the socket has connected, has written what it was given, or has closed: {@link isQuiet} is to be
 * asked again then. Returns what stops the waiting. Until then an `'error'` of the socket is the relay's.
 */
export function waitUntilQuiet(socket: Socket, next: () => void): () => void {
  let over = false;
  const step = (): void => {
    if (!over) next();
  };
  const ignore = (): void => {};
  const stop = (): void => {
    over = true;
    socket.off('error', ignore);
    socket.off('close', step);
    socket.off('connect', step);
    socket.off('finish', step);
  };
  socket.on('error', ignore);
  socket.once('close', step);
  if (isQuiet(socket)) return stop;
  if (socket.connecting) {
    socket.once('connect', step);
  } else if (socket.writableEnded) {
    socket.once('finish', step);
  } else {
    while (socket.writableCorked > 0) socket.uncork();
    // An empty write is behind all others; 'drain' comes only to those who were told to wait for it.
    socket.write('', step);
  }
  return stop;
}

/** What Node has read, or was given back by unshift(), and nobody has taken. */
export function takeBytes(socket: Socket): Buffer | undefined {
  if (socket.readableLength === 0) return undefined;
  // A paused stream gives all that it has in one piece.
  return socket.read() as Buffer;
}

/** RST where there is a connection to be reset, so that nobody takes a cut stream for a whole one. */
export function abandon(socket: Socket): void {
  if (socket.connecting) socket.destroy();
  else reset(socket);
}
