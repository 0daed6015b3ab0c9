// How a handshake has failed that the addon's thread has made, as an error: the same as connectVia() has.
import { codedError, type CodedError } from '../errors.ts';
import { malformedAnswer } from './handshake.ts';
import { httpRefusal } from './http-connect.ts';
import type { ProxyServer } from './proxy-server.ts';
import { socksRefusal, socksRejection } from './socks5.ts';

/** enum HandshakeFailure of src/relay/handshake.h. */
const REFUSED = 1;
const NOT_AUTHORIZED = 2;
const TOO_LATE = 9;
/** What is wrong with an answer that is none. */
const MALFORMED: Record<number, string> = {
  3: 'is of another protocol',
  4: 'chooses a method that it was not offered',
  5: 'has an address of a kind that SOCKS5 does not have',
  6: 'has more than was asked for',
  7: 'is too long',
  8: 'ends before it is whole',
};

/** The `code` of {@link handshakeError}. */
export function handshakeCode(failure: number): string {
  if (failure === REFUSED) return 'ERR_PROXY_REFUSED';
  if (failure === NOT_AUTHORIZED) return 'ERR_PROXY_AUTH';
  return failure === TOO_LATE ? 'ERR_PROXY_TIMEOUT' : 'ERR_PROXY_PROTOCOL';
}

/** @param timeout how long the proxy was given, in milliseconds */
export function handshakeError(
  proxy: ProxyServer,
  failure: number,
  status: number,
  timeout: number,
): CodedError {
  if (failure === TOO_LATE)
    return codedError('ERR_PROXY_TIMEOUT', `The proxy has not connected in ${timeout} ms`);
  if (failure !== REFUSED && failure !== NOT_AUTHORIZED) return malformedAnswer(MALFORMED[failure]!);
  if (proxy.protocol === 'http') return httpRefusal(status);
  return failure === REFUSED ? socksRefusal(status) : socksRejection(proxy, status);
}
