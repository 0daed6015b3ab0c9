// What the client of a net.Socket says first, without taking it from who reads the socket afterwards.
import { Socket } from 'node:net';
import { checkOptionNames, checkSignal, invalidType } from '../arguments.ts';
import { codedError, type CodedError } from '../errors.ts';
import type { FirstBytes } from './first-bytes.ts';
import { type InspectLimits, readInspectLimits } from './limits.ts';
import { parseFirstBytes } from './parse.ts';

/** How {@link inspect} waits. */
export interface InspectOptions extends InspectLimits {
  /** Aborting it rejects the promise with its reason; the bytes are put back all the same. */
  signal?: AbortSignal;
}

const OPTIONS: ReadonlySet<string> = new Set<keyof InspectOptions>(['maxBytes', 'signal', 'timeout']);

function gone(cause?: Error): CodedError {
  return codedError('ERR_CLIENT_GONE', 'The socket was closed before its client had said what it wants', {
    cause,
  });
}

function unreadable(why: string, hint: string): CodedError {
  return codedError('ERR_INSPECT_UNREADABLE', `inspect: ${why}`, { hint });
}

function check(socket: Socket, options: InspectOptions): void {
  if (!(socket instanceof Socket)) throw invalidType('socket', 'an instance of net.Socket', socket);
  checkOptionNames('inspect', Object.keys(options), OPTIONS);
  const { signal } = options;
  checkSignal('options.signal', signal);
  if (socket.readableEncoding !== null)
    throw unreadable('the socket has an encoding, its bytes cannot be had back', 'do not call setEncoding()');
  // Also one that is paused: read() emits 'data'.
  if (socket.readableFlowing === true || socket.listenerCount('data') > 0)
    throw unreadable(
      'somebody reads the socket already',
      'call it ahead of the first `data` listener or pipe()',
    );
}

/** Reads a socket without letting it come to its end, and puts back what it has read. */
class Reader {
  readonly #socket: Socket;
  /** All that was read but the last byte. */
  #held: Buffer = Buffer.alloc(0);
  /**
   * That byte is always put back at once: a stream that has nothing left when its peer ends emits `'end'`, and takes
   * nothing back after that.
   */
  #left: 0 | 1 = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** All that there is so far, and whether that is all that there will be; undefined when there is nothing new. */
  read(): { bytes: Buffer; ended: boolean } | undefined {
    const socket = this.#socket;
    const before = socket.readableLength;
    // One more than was put back: given only if there is more, or, at the end, without.
    const some = socket.read(this.#left + 1) as Buffer | null;
    if (some === null) return undefined;
    const rest = some.length <= this.#left ? null : (socket.read() as Buffer | null);
    const bytes = Buffer.concat([this.#held, some, ...(rest === null ? [] : [rest])]);
    this.#held = bytes.subarray(0, -1);
    socket.unshift(bytes.subarray(-1));
    const ended = before === this.#left;
    this.#left = 1;
    return { bytes, ended };
  }

  putBack(): void {
    if (this.#held.length > 0 && !this.#socket.destroyed) this.#socket.unshift(this.#held);
  }
}

/**
 * Waits for the first bytes of a connection and says what they are, as `inspect` of {@link createRelayServer} does: a
 * TLS ClientHello, the head of an HTTP/1 request, the preface of HTTP/2, or something else. The bytes are put back:
 * whoever reads the socket next, {@link relay} among them, gets all of them. A paused socket stays paused.
 *
 * By what is there it answers too when `timeout` is over, at `maxBytes`, and when the client has ended. A client that
 * has ended without a byte is `'silent'`; its `'end'` has been emitted then.
 *
 * @param socket accepted by createServer or anything else; nobody may be reading it
 * @throws (as rejections) argument errors; `ERR_INSPECT_UNREADABLE` for a socket that is being read, or has an
 *   encoding; `ERR_CLIENT_GONE` when it closes, with the socket's error, if any, as `cause`; the reason of `signal`
 * Source: RFC 8446, RFC 9112, RFC 9113.
 */
export async function inspect(socket: Socket, options: InspectOptions = {}): Promise<FirstBytes> {
  check(socket, options);
  const { timeout, maxBytes } = readInspectLimits(options, 'options');
  const { signal } = options;
  signal?.throwIfAborted();
  if (socket.destroyed) throw gone();
  const paused = socket.isPaused();
  const reader = new Reader(socket);
  let first = parseFirstBytes(Buffer.alloc(0)).first;
  let stop!: () => void;
  try {
    await new Promise<void>((resolve, reject) => {
      const onReadable = (): void => {
        // The end may be there with the last bytes, and then no event tells of it.
        for (let got = reader.read(); got; got = reader.read()) {
          const { first: seen, need } = parseFirstBytes(got.bytes.subarray(0, maxBytes));
          first = seen;
          if (need !== 0 && need <= maxBytes && !got.ended) continue;
          resolve();
          return;
        }
      };
      const onClose = (): void => reject(gone());
      const onError = (error: Error): void => reject(gone(error));
      const onAbort = (): void => reject(signal!.reason as Error);
      const onEnd = (): void => resolve();
      const timer = setTimeout(resolve, timeout);
      stop = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
        socket.off('readable', onReadable).off('end', onEnd).off('close', onClose).off('error', onError);
      };
      signal?.addEventListener('abort', onAbort);
      socket.on('readable', onReadable).on('end', onEnd).on('close', onClose).on('error', onError);
    });
  } finally {
    stop();
    reader.putBack();
    // A stream that has lost its last 'readable' listener forgets, a tick later, that it was paused.
    await new Promise<void>((resolve) => {
      process.nextTick(resolve);
    });
    if (paused && !socket.destroyed) socket.pause();
  }
  return { ...first, bytes: Buffer.from(first.bytes) };
}
