// An HTTP server behind REDIRECT that compares what clients say with what they do: the Host header with the
// address that was really dialled. A request that names one host and dials another (domain fronting, a stale
// DNS answer, an attempt to get past a filter on names) is answered with 421 Misdirected Request.
//
//   node http-inspector.js [port]        (default 15001)
//
// intercept() works on every server that exists already: http here; https, http2, tls and net alike.
import { lookup } from 'node:dns/promises';
import { createServer } from 'node:http';
import { isIP, isIPv6 } from 'node:net';
import { intercept, originalDst, type OriginalDst } from 'original-dst';

const port = Number(process.argv[2] ?? 15001);

/** Why this Host header does not stand for the address that was dialled, or undefined if it does. */
async function mismatch(host: string | undefined, dialled: OriginalDst): Promise<string | undefined> {
  if (dialled.kind === 'unknown') return `destination unknown: ${dialled.cause.message}`;
  if (!host || !URL.canParse(`http://${host}`)) return 'no usable Host header';
  const url = new URL(`http://${host}`);

  const namedPort = Number(url.port || 80);
  if (namedPort !== dialled.port) return `Host says port ${namedPort}`;

  const name = url.hostname.replace(/^\[|\]$/g, '');
  if (isIP(name)) return canonical(name) === canonical(dialled.address) ? undefined : 'another address';
  try {
    const named = await lookup(name, { all: true });
    if (named.some(({ address }) => canonical(address) === canonical(dialled.address))) return undefined;
    return `${name} is ${named.map(({ address }) => address).join(', ')}`;
  } catch (error) {
    return `${name} does not resolve: ${(error as NodeJS.ErrnoException).code}`;
  }
}

/** One spelling for each IPv6 address: URL writes the shortest form. */
function canonical(address: string): string {
  return isIPv6(address) ? new URL(`http://[${address.replace(/%.*/, '')}]`).hostname : address;
}

const server = intercept(
  createServer(async (request, response) => {
    const dialled = originalDst(request.socket)!; // there before the first request is read
    const { host } = request.headers;
    const wrong = await mismatch(host, dialled);

    const where = dialled.kind === 'unknown' ? '-' : `${dialled.address} ${dialled.port}`;
    const line = `${wrong ? 'MISMATCH' : 'ok'} dialled ${where} (${dialled.kind}) Host ${host ?? '-'}`;
    console.log(wrong ? `${line}: ${wrong}` : line);
    response.writeHead(wrong ? 421 : 200, { 'content-type': 'text/plain' }).end(`${line}\n`);
  }),
);

server.listen(port, () => console.log('listening', server.address()));
