// SOCKS5 as its client, RFC 1928 and RFC 1929: CONNECT to an address or a name.
import { addressBytes, familyOf } from '../address.ts';
import { malformedAnswer, proxyError, type Handshake, type ProxyError, type Turn } from './handshake.ts';
import type { ProxyServer, Target } from './proxy-server.ts';

const VERSION = 5;
const PASSWORD_VERSION = 1;
const NO_AUTHENTICATION = 0;
const USERNAME_PASSWORD = 2;
const NO_ACCEPTABLE_METHOD = 0xff;
const CONNECT = 1;
const IPV4 = 1;
const NAME = 3;
const IPV6 = 4;

/** RFC 1928, section 6. */
const REPLIES: Record<number, string> = {
  1: 'general failure',
  2: 'not allowed by its rules',
  3: 'network unreachable',
  4: 'host unreachable',
  5: 'connection refused',
  6: 'TTL expired',
  7: 'command not supported',
  8: 'address type not supported',
};

function destinationBytes({ address, name, port }: Target): Buffer {
  const host =
    address === undefined
      ? [NAME, name!.length, ...Buffer.from(name!, 'latin1')]
      : [familyOf(address) === 'IPv4' ? IPV4 : IPV6, ...addressBytes(address)];
  return Buffer.from([...host, port >> 8, port & 0xff]);
}

/** A turn whose answer begins with `version`, and is otherwise as long as `length` says. */
function turn(send: Buffer, version: number, length: (received: Buffer) => number | undefined): Turn {
  return {
    send,
    length: (received) => {
      if (received[0] !== version) throw malformedAnswer('is none of SOCKS5');
      return length(received);
    },
  };
}

/** VER REP RSV ATYP BND.ADDR BND.PORT */
function replyLength(received: Buffer): number | undefined {
  const [, reply, , type, nameLength] = received;
  // Some close the connection behind the code.
  if (reply !== undefined && reply !== 0) return 2;
  if (type === undefined) return undefined;
  if (type === IPV4) return 4 + 4 + 2;
  if (type === IPV6) return 4 + 16 + 2;
  if (type !== NAME) throw malformedAnswer('has an address of a kind that SOCKS5 does not have');
  return nameLength === undefined ? undefined : 4 + 1 + nameLength + 2;
}

/** It does not let us in. `status`: of the password, or that it accepts no method that it was offered. */
export function socksRejection({ username }: ProxyServer, status: number): ProxyError {
  const message =
    status !== NO_ACCEPTABLE_METHOD
      ? 'does not take this username and password'
      : `demands ${username === undefined ? 'a password' : 'another way to authenticate'}`;
  return proxyError('ERR_PROXY_AUTH', `The SOCKS5 proxy ${message}`, status);
}

export function socksRefusal(reply: number): ProxyError {
  const reason = REPLIES[reply] ?? 'for a reason that RFC 1928 does not have';
  return proxyError('ERR_PROXY_REFUSED', `The SOCKS5 proxy has not connected: ${reason} (${reply})`, reply);
}

function methodsFor({ username }: ProxyServer): number[] {
  return username === undefined ? [NO_AUTHENTICATION] : [NO_AUTHENTICATION, USERNAME_PASSWORD];
}

/** VER NMETHODS METHODS */
export function socksGreeting(proxy: ProxyServer): Buffer {
  const methods = methodsFor(proxy);
  return Buffer.from([VERSION, methods.length, ...methods]);
}

/** RFC 1929: VER ULEN UNAME PLEN PASSWD; empty where there is none. */
export function socksPassword({ username, password = '' }: ProxyServer): Buffer {
  if (username === undefined) return Buffer.alloc(0);
  const [user, secret] = [Buffer.from(username), Buffer.from(password)];
  return Buffer.concat([
    Buffer.from([PASSWORD_VERSION, user.length]),
    user,
    Buffer.from([secret.length]),
    secret,
  ]);
}

/** VER CMD RSV ATYP DST.ADDR DST.PORT */
export function socksRequest(target: Target): Buffer {
  return Buffer.concat([Buffer.from([VERSION, CONNECT, 0]), destinationBytes(target)]);
}

/** Yields what the proxy is sent, and returns when it has connected. */
export function* socks5(proxy: ProxyServer, target: Target): Handshake {
  const [, method] = yield turn(socksGreeting(proxy), VERSION, () => 2);
  if (method === NO_ACCEPTABLE_METHOD) throw socksRejection(proxy, method);
  if (!methodsFor(proxy).includes(method!)) throw malformedAnswer('chooses a method that it was not offered');
  if (method === USERNAME_PASSWORD) {
    const [, status] = yield turn(socksPassword(proxy), PASSWORD_VERSION, () => 2);
    if (status !== 0) throw socksRejection(proxy, status!);
  }
  const [, reply] = yield turn(socksRequest(target), VERSION, replyLength);
  if (reply !== 0) throw socksRefusal(reply!);
}
