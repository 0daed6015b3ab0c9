// connectVia(): dials by way of another proxy.
import { connect as netConnect, Socket } from 'node:net';
import { canonicalAddress } from '../address.ts';
import { checkInteger, MAX_MS } from '../arguments.ts';
import { binding } from '../binding.ts';
import { codedError, systemError } from '../errors.ts';
import { foreignRuntimeName } from '../node/runtime.ts';
import { aroundConnect, socketFd, type Attempt } from '../node/socket-fd.ts';
import { egressRefusal } from '../policy/egress.ts';
import type { Path } from '../policy/own-dials.ts';
import { checkAdoption, closeAdopted } from './adopted-fd.ts';
import { noDescriptors } from './attempt.ts';
import { dials, publishDial } from './channel.ts';
import { checkDialOptions, dial, type ConnectOptions } from './connect.ts';
import { Conversation, malformedAnswer } from './handshake.ts';
import { httpConnect } from './http-connect.ts';
import {
  checkProxyServer,
  readDestination,
  type ProxiedDestination,
  type ProxyServer,
} from './proxy-server.ts';
import { socks5 } from './socks5.ts';

/** How the proxy is dialled: as of {@link connect}; `egress` judges the destination, which must be an address then. */
export interface ConnectViaOptions extends Omit<ConnectOptions, 'address' | 'port'> {
  /**
   * How many milliseconds the proxy may take, from the connection to it on, until it has connected. Default 30,000;
   * 0: for ever.
   */
  handshakeTimeout?: number;
}

const PROTOCOLS = { socks5, http: httpConnect };

/** Connects `socket` by way of `inner`, a socket that is still connecting to the proxy. */
function talk(inner: Socket, talked: Conversation, timeout: number, socket: Socket): void {
  let attempt: Attempt | undefined;
  aroundConnect(socket, (made) => {
    attempt = made;
    return 0;
  });
  let timer: NodeJS.Timeout | undefined;
  const over = (): void => {
    clearTimeout(timer);
    inner.destroy();
  };
  const fail = (error: Error): void => {
    over();
    socket.destroy(error);
  };
  socket.once('close', over);
  inner.once('error', fail);
  inner.once('end', () => fail(malformedAnswer('ends before it is whole')));
  inner.once('connect', () => {
    inner.write(talked.opening);
    if (timeout === 0) return;
    const late = (): void =>
      fail(codedError('ERR_PROXY_TIMEOUT', `The proxy has not connected in ${timeout} ms`));
    timer = setTimeout(late, timeout);
  });
  inner.on('data', (piece: Buffer) => {
    let next: ReturnType<Conversation['take']>;
    try {
      next = talked.take(piece);
    } catch (error) {
      fail(error as Error);
      return;
    }
    if (next === undefined) return;
    if ('send' in next) {
      inner.write(next.send);
      return;
    }
    const fd = binding().duplicateFd(socketFd(inner)!);
    socket.off('close', over);
    over();
    /* c8 ignore next -- no descriptor is left */
    if (fd < 0) socket.destroy(systemError(fd, { syscall: 'fcntl' }));
    else finish(socket, attempt!, fd, next.rest);
  });
}

/** The proxy has connected: `socket` goes on with its fd. `rest`: what the destination has said already. */
function finish(socket: Socket, attempt: Attempt, fd: number, rest: Buffer): void {
  if (!attempt.adopt(fd)) {
    binding().closeFd(fd);
    socket.destroy(noDescriptors());
    return;
  }
  // Ahead of the caller's listeners, because one of them may be relay()'s, which takes what there is; and yet not before
  // they have been called, as a stream that flows would have it.
  socket.prependOnceListener('connect', () => {
    if (rest.length === 0) return;
    const flowing = socket.readableFlowing === true;
    if (flowing) socket.pause();
    socket.unshift(rest);
    if (flowing) socket.resume();
  });
  attempt.complete();
}

/**
 * `connect(2)` to a proxy, then its handshake: SOCKS5 (RFC 1928, RFC 1929) or HTTP CONNECT (RFC 9110).
 *
 * Returns at once a net.Socket that behaves as {@link connect}'s: it is `connecting` until the proxy has connected,
 * keeps what is written meanwhile, then emits `'connect'`. Its remote address is the proxy's. It is fit for
 * {@link relay}.
 *
 * `'error'`: `ERR_PROXY_REFUSED` and `ERR_PROXY_AUTH`, with the proxy's reply or status code in `proxyStatus`;
 * `ERR_PROXY_PROTOCOL` for an answer that is none, is cut off or is longer than 16 KiB; `ERR_PROXY_TIMEOUT`;
 * `ERR_EGRESS_DENIED`; and those of {@link connect} for the way to the proxy.
 *
 * @param destination an address, or a name that the proxy resolves; an address is not accepted for a name
 * @throws argument errors, `ERR_UNSUPPORTED_RUNTIME`, `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`
 * Capability: as {@link connect}.
 */
export function connectVia(
  proxy: ProxyServer,
  destination: ProxiedDestination,
  options: ConnectViaOptions = {},
): Socket {
  return dialVia(proxy, destination, options, 0);
}

/** The same on behalf of a client that has come through the listeners of `path`. */
export function dialVia(
  proxy: ProxyServer,
  destination: ProxiedDestination,
  options: ConnectViaOptions,
  path: Path,
): Socket {
  checkProxyServer(proxy);
  const target = readDestination(destination);
  checkDialOptions(options);
  checkAdoption(options);
  const { handshakeTimeout = 30_000, egress, signal, timeout, allowHalfOpen = false, ...how } = options;
  checkInteger('options.handshakeTimeout', handshakeTimeout, 0, MAX_MS);
  if (egress !== undefined && target.address === undefined) {
    throw codedError(
      'ERR_INVALID_ARG_VALUE',
      '"options.egress" judges addresses, and the proxy is given a name',
      { base: TypeError },
    );
  }
  if (foreignRuntimeName() !== undefined) throw noDescriptors();
  binding();

  const { address, port, protocol } = proxy;
  const refusal =
    target.address !== undefined && egressRefusal(egress, { address: target.address, port: target.port });
  if (refusal || signal?.aborted) {
    closeAdopted(how);
    return refusal ? new Socket().destroy(refusal) : new Socket({ signal: signal! });
  }
  const socket = netConnect({
    // No packet goes there: it is connected by the descriptor of the connection to the proxy.
    host: canonicalAddress(address) ?? '127.0.0.1',
    port,
    allowHalfOpen,
    ...(signal === undefined ? {} : { signal }),
    ...(timeout === undefined ? {} : { timeout }),
  });
  let inner: Socket;
  try {
    inner = dial({ ...how, address, port, allowHalfOpen: true }, path);
  } catch (error) {
    socket.destroy();
    throw error;
  }
  talk(inner, new Conversation(PROTOCOLS[protocol](proxy, target)), handshakeTimeout, socket);
  if (dials.hasSubscribers) publishDial({ socket }, [target], proxy);
  return socket;
}
