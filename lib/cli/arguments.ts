// What the command's arguments may be: numbers, ports, marks, addresses.
import { InvalidArgumentError } from 'commander';
import { canonicalAddress } from '../address.ts';
import { checkProxyServer, type ProxyServer } from '../dial/proxy-server.ts';
import type { Family, PortRange } from '../rules/index.ts';
import { parseCidr } from '../rules/config/ranges.ts';

/** A whole number from `min` to `max`, decimal or (marks) hexadecimal. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^(\d+|0x[0-9a-f]+)$/i.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) {
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

export const port = integer(1, 65535);
export const mark = integer(1, 2 ** 32 - 1);
export const id = integer(0, 2 ** 32 - 2);

/** `4`, `6` */
export function family(text: string): Family {
  if (text !== '4' && text !== '6') throw new InvalidArgumentError('It must be 4 or 6.');
  return text === '4' ? 'IPv4' : 'IPv6';
}

/** Makes of a parser of one value one of several, with commas between them, and of the option one to repeat. */
export function list<T>(parse: (text: string) => T): (text: string, previous?: T[]) => T[] {
  return (text, previous = []) => [...previous, ...text.split(',').map((each) => parse(each))];
}

/** `80`, `8000-8999` */
export function portRange(text: string): PortRange {
  const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(text) ?? [];
  if (first === undefined) throw new InvalidArgumentError('It must be a port (80) or a range (8000-8999).');
  return last === undefined ? port(first) : `${port(first)}-${port(last)}`;
}

/** `10.0.0.0/8`, `192.0.2.1`, `2001:db8::/32` */
export function cidr(text: string): string {
  try {
    parseCidr('', text);
    return text;
  } catch {
    throw new InvalidArgumentError(
      'It must be an address or a prefix: 10.0.0.0/8, 192.0.2.1, 2001:db8::/32.',
    );
  }
}

/** A prefix, and the port where one is named. */
export interface Target {
  cidr: string;
  port: number | undefined;
}

/** `10.0.0.0/8`, `10.0.0.0/8:443`, `2001:db8::/32`, `[2001:db8::/32]:443` */
export function target(text: string): Target {
  // Two colons or more without brackets are an IPv6 prefix alone.
  const [, bracketed, dotted, portText] = /^(?:\[([^\]]*)\]|([^:]*))(?::([^:]*))?$/.exec(text) ?? [];
  return {
    cidr: cidr(bracketed ?? dotted ?? text),
    port: portText === undefined ? undefined : port(portText),
  };
}

export interface ListenAddress {
  host: string;
  port: number;
}

/** Makes a parser of `15001`, `127.0.0.1:15001`, `[::1]:15001`; port 0 lets the kernel choose. */
function addressOn(anyHost: string): (text: string) => ListenAddress {
  return (text) => parseAddress(text, anyHost);
}

function parseAddress(text: string, anyHost: string): ListenAddress {
  const [, bracketed, bare, number] = /^(?:\[([^\]]+)\]:|([^:[\]]+):)?(\d+)$/.exec(text) ?? [];
  const host = bracketed ?? bare ?? anyHost;
  const canonical = canonicalAddress(host);
  if (number === undefined || canonical === undefined || (bracketed && !host.includes(':'))) {
    throw new InvalidArgumentError(
      'It must be a port or an address and a port: 15001, 127.0.0.1:15001, [::1]:15001.',
    );
  }
  return { host: canonical, port: integer(0, 65535)(number) };
}

export const listenAddress = addressOn('::');
/** What is not for everybody: on the loopback interface unless an address is named. */
export const localAddress = addressOn('127.0.0.1');

/** `socks5://127.0.0.1:1080`, `http://user:password@proxy.example:3128`; SOCKS5's default port is 1080, HTTP's 80. */
export function proxyServer(text: string): ProxyServer {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const protocol = url && PROXY_PROTOCOLS[url.protocol];
  const rest = url && url.pathname.replace(/^\/$/, '') + url.search + url.hash;
  if (protocol === undefined || url!.hostname === '' || rest !== '') {
    throw new InvalidArgumentError('It must be socks5://[user:password@]host[:port] or http://….');
  }
  const { hostname, port: given, username, password } = url!;
  const server: ProxyServer = {
    protocol,
    address: hostname.replace(/^\[|\]$/g, ''),
    port: given === '' ? DEFAULT_PORTS[protocol] : Number(given),
    ...(username === '' ? {} : { username: decodeURIComponent(username) }),
    ...(password === '' ? {} : { password: decodeURIComponent(password) }),
  };
  try {
    checkProxyServer(server, 'via');
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`);
  }
  return server;
}

const PROXY_PROTOCOLS: Record<string, ProxyServer['protocol']> = { 'socks5:': 'socks5', 'http:': 'http' };
const DEFAULT_PORTS = { socks5: 1080, http: 80 };
