// Accepted connections that begin with a PROXY protocol header, which is taken off before anybody sees them.
import { BlockList, type Socket } from 'node:net';
import { canonicalAddress } from '../address.ts';
import { checkInteger, checkKnown, invalidType, MAX_MS } from '../arguments.ts';
import { codedError, systemError, type CodedError } from '../errors.ts';
import { listed } from '../policy/egress.ts';
import { parseProxyHeader, type ProxyHeader } from '../recover/proxy-header.ts';

/** Which peers send the header of the PROXY protocol. */
export interface ProxyProtocolOptions {
  /**
   * The proxies in front. From these every connection must begin with a header, from others none is looked for: what
   * they send is not read as one, whatever it looks like.
   */
  from: BlockList;
  /** How long the header may take, in milliseconds. Default 5000; 0: for ever. */
  timeout?: number;
}

/** Throws unless it is such an option. */
export function checkProxyProtocol(value: unknown): asserts value is ProxyProtocolOptions | undefined {
  if (value === undefined) return;
  if (typeof value !== 'object' || value === null)
    throw invalidType('options.proxyProtocol', 'of type object', value);
  checkKnown('options.proxyProtocol', value, ['from', 'timeout']);
  const { from, timeout } = value as ProxyProtocolOptions;
  if (!(from instanceof BlockList))
    throw invalidType('options.proxyProtocol.from', 'an instance of net.BlockList', from);
  if (timeout !== undefined) checkInteger('options.proxyProtocol.timeout', timeout, 0, MAX_MS);
}

/**
 * Must the connection begin with a header? Or why that cannot be known: who has reset it has no address any more
 * (getpeername(2): ENOTCONN), and may have been a proxy, whose header is no client's bytes, or somebody who plays one.
 */
export function sendsHeader({ from }: ProxyProtocolOptions, socket: Socket): boolean | CodedError {
  const address = socket.remoteAddress;
  if (address === undefined) return noHeader('the connection was reset before it was accepted');
  return listed(from, canonicalAddress(address)!);
}

function noHeader(what: string, cause?: Error): CodedError {
  return codedError('ERR_PROXY_HEADER', `No PROXY protocol header: ${what}`, {
    hint: 'only proxies that send one may be in `proxyProtocol.from`',
    ...(cause === undefined ? {} : { cause }),
  });
}

/**
 * Reads the header, and not a byte more, from a socket that nobody else reads from yet; then it is as it was. `done` is
 * called once, a tick after the last byte, or with why there is none.
 */
export function takeHeader(
  socket: Socket,
  timeout: number,
  done: (result: ProxyHeader | CodedError) => void,
): void {
  const paused = socket.isPaused();
  let received: Buffer = Buffer.alloc(0);
  let need = 1;
  const finish = (result: ProxyHeader | CodedError): void => {
    clearTimeout(timer);
    socket.off('readable', onReadable).off('end', onEnd).off('close', onEnd);
    // Removing the listener takes effect in a tick of the stream's own, ahead of this one.
    process.nextTick(() => {
      if (paused) socket.pause();
      done(result);
      // Of one that nobody has been given nobody hears the error either.
      if (!socket.destroyed) socket.off('error', onError);
    });
  };
  const onError = (): void => {};
  const onEnd = (): void => finish(noHeader('the connection has ended'));
  const onReadable = (): void => {
    while (socket.readableLength > 0) {
      received = Buffer.concat([
        received,
        socket.read(Math.min(need - received.length, socket.readableLength)) as Buffer,
      ]);
      if (received.length < need) continue;
      const parsed = parseProxyHeader(received);
      if (typeof parsed === 'object') {
        finish(parsed);
        return;
      }
      if (parsed < 0) {
        const cause = systemError(parsed, { syscall: 'read' });
        finish(noHeader('the first bytes are none, or not one of TCP over IP', cause));
        return;
      }
      need = parsed;
    }
    // Lets the stream tell of its end.
    socket.read(0);
  };
  const late = (): void => finish(noHeader(`none has come in ${timeout} ms`));
  const timer = timeout === 0 ? undefined : setTimeout(late, timeout);
  socket.on('error', onError).once('end', onEnd).once('close', onEnd).on('readable', onReadable);
}
