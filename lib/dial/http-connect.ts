// HTTP CONNECT as its client, RFC 9110 section 9.3.6 and RFC 9112, with Basic credentials, RFC 7617.
import { formatEndpoint } from '../address.ts';
import { http } from '../node/on-demand.ts';
import { malformedAnswer, proxyError, type Handshake, type ProxyError, type Turn } from './handshake.ts';
import type { ProxyServer, Target } from './proxy-server.ts';

const BEGINNING = 'HTTP/1.';
const STATUS_LINE = /^HTTP\/1\.[01] ([1-5]\d\d)(?: ([^\r\n]*))?\r\n/;
/** Proxy Authentication Required; and 401, which tinyproxy says to a wrong password. */
const AUTHENTICATION: ReadonlySet<number> = new Set([401, 407]);

/** The head of a message ends with an empty line. Its body, if it says that it has one, has none: RFC 9110. */
function headLength(received: Buffer): number | undefined {
  // At the first wrong byte: whoever speaks another protocol is not waited for.
  const beginning = received.toString('latin1', 0, BEGINNING.length);
  if (!BEGINNING.startsWith(beginning)) throw malformedAnswer('is none of HTTP/1.1');
  const end = received.indexOf('\r\n\r\n');
  return end < 0 ? undefined : end + 4;
}

/** What a stranger has written, for a message that may be shown in a terminal. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 80);
}

function turn(send: Buffer): Turn {
  return { send, length: headLength };
}

export function httpRequest({ username, password = '' }: ProxyServer, target: Target): Buffer {
  const { address, name, port } = target;
  const authority = formatEndpoint({ address: address ?? name!, port });
  const credentials = Buffer.from(`${username}:${password}`).toString('base64');
  const lines = [
    `CONNECT ${authority} HTTP/1.1`,
    `Host: ${authority}`,
    ...(username === undefined ? [] : [`Proxy-Authorization: Basic ${credentials}`]),
  ];
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`);
}

/** `reason`: in the proxy's own words, or in those of the status code. */
export function httpRefusal(status: number, reason = http().STATUS_CODES[status] ?? ''): ProxyError {
  const code = AUTHENTICATION.has(status) ? 'ERR_PROXY_AUTH' : 'ERR_PROXY_REFUSED';
  const message = `The HTTP proxy has not connected: ${status} ${printable(reason)}`.trimEnd();
  return proxyError(code, message, status);
}

/** Yields what the proxy is sent, and returns when it has connected. */
export function* httpConnect(proxy: ProxyServer, target: Target): Handshake {
  let head = yield turn(httpRequest(proxy, target));
  for (;;) {
    const [, code, reason = ''] = STATUS_LINE.exec(head.toString('latin1')) ?? [];
    if (code === undefined) throw malformedAnswer('has no status line of HTTP/1.1');
    const status = Number(code);
    if (status >= 200 && status < 300) return;
    if (status >= 200 || status === 101) throw httpRefusal(status, reason);
    // 100 Continue and its like announce another one.
    head = yield turn(Buffer.alloc(0));
  }
}
