// Another proxy, and what it is asked to connect to: what users write, read and checked.
import { isIP } from 'node:net';
import { domainToASCII } from 'node:url';
import { canonicalAddress } from '../address.ts';
import { checkInteger, checkKnown, checkString, invalidType, outOfRange } from '../arguments.ts';
import { codedError, type CodedError } from '../errors.ts';

/** A proxy that connects on others' behalf. */
export interface ProxyServer {
  /** `'socks5'`: RFC 1928, with RFC 1929 for the password; `'http'`: CONNECT, RFC 9110, with Basic, RFC 7617. */
  protocol: 'socks5' | 'http';
  /** A literal IP address, or a host name for dns.lookup. */
  address: string;
  port: number;
  username?: string;
  /** Default: empty. */
  password?: string;
}

/** What a proxy is asked to connect to: an address, or a name that it is to resolve. */
export type ProxiedDestination =
  | {
      /** A literal IP address. */
      address: string;
      port: number;
    }
  | {
      /** A host name, at most 255 bytes; sent to the proxy and not looked up here. */
      name: string;
      port: number;
    };

const PROXY_KEYS = ['protocol', 'address', 'port', 'username', 'password'];
const MOST_NAME_BYTES = 255;

function invalidValue(message: string): CodedError {
  return codedError('ERR_INVALID_ARG_VALUE', message, { base: TypeError });
}

function checkCredentials({ protocol, username, password }: ProxyServer): void {
  for (const [name, value] of Object.entries({ username, password })) {
    if (value === undefined) continue;
    if (typeof value !== 'string') throw invalidType(`proxy.${name}`, 'of type string', value);
    // RFC 1929: a length of one byte. RFC 7617: no control characters, and a colon ends the user's name.
    if (protocol === 'socks5' && Buffer.byteLength(value) > 255)
      throw invalidValue(`SOCKS5 takes at most 255 bytes for "proxy.${name}"`);
    // oxlint-disable-next-line no-control-regex -- those are meant
    if (protocol === 'http' && /[\0-\x1f\x7f]/.test(value))
      throw invalidValue(`"proxy.${name}" has a control character in it`);
  }
  if (username === undefined && password !== undefined)
    throw invalidValue('"proxy.password" is given without "proxy.username"');
  if (username === '') throw invalidValue('"proxy.username" is empty');
  if (protocol === 'http' && username?.includes(':'))
    throw invalidValue('HTTP takes no colon in "proxy.username"');
}

/** Throws unless it is a proxy. `name`: of the argument. */
export function checkProxyServer(proxy: unknown, name = 'proxy'): asserts proxy is ProxyServer {
  if (typeof proxy !== 'object' || proxy === null) throw invalidType(name, 'of type object', proxy);
  checkKnown(name, proxy, PROXY_KEYS);
  const { protocol, address, port } = proxy as ProxyServer;
  if (protocol !== 'socks5' && protocol !== 'http')
    throw outOfRange(`${name}.protocol`, "'socks5' or 'http'", protocol);
  checkString(`${name}.address`, address);
  checkInteger(`${name}.port`, port, 1, 65535);
  checkCredentials(proxy as ProxyServer);
}

/** Where a proxy is to connect to, as it is told: one of the two. */
export interface Target {
  readonly address?: string;
  /** In ASCII, as DNS has it. */
  readonly name?: string;
  readonly port: number;
}

/** The same as a proxy can be told it. @throws unless it is a destination */
export function readDestination(destination: unknown, argument = 'destination'): Target {
  if (typeof destination !== 'object' || destination === null)
    throw invalidType(argument, 'of type object', destination);
  const { address, name, port } = destination as { address?: unknown; name?: unknown; port?: unknown };
  checkInteger(`${argument}.port`, port, 1, 65535);
  if ((address === undefined) === (name === undefined))
    throw invalidValue(`Give either "${argument}.address" or "${argument}.name"`);
  if (name === undefined) {
    checkString(`${argument}.address`, address);
    const literal = canonicalAddress(address);
    if (literal === undefined) throw invalidType(`${argument}.address`, 'a literal IP address', address);
    // An interface of this host says nothing to another one.
    if (literal.includes('%'))
      throw invalidValue(`A proxy cannot be told of an interface of this host: ${literal}`);
    return { address: literal, port };
  }
  checkString(`${argument}.name`, name);
  // An address in a name's clothes would pass by whatever is allowed by name.
  if (isIP(name.replace(/^\[|\]$/g, '')) !== 0)
    throw invalidValue(`"${argument}.name" is an IP address: give "${argument}.address"`);
  // By the URL standard `a/b` is a, `%41` is A, and `127.1` is 127.0.0.1.
  const ascii = /^[\w.\x80-\uffff-]+$/.test(name) ? domainToASCII(name) : '';
  if (!/^[\w.-]+$/.test(ascii) || isIP(ascii) !== 0 || ascii.length > MOST_NAME_BYTES)
    throw invalidType(`${argument}.name`, 'a host name of at most 255 bytes', name);
  return { name: ascii, port };
}
