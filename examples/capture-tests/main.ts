// Runs tests whose calls, HTTPS too, are answered from a file: see README.md.
//
//   node capture-tests/main.js answers.json -- npm test
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Server } from 'node:net';
import { createDnsForwarder } from 'original-dst';
import { createCapture } from 'original-dst/capture';
import { Authority } from './authority.ts';

interface Answer {
  status?: number;
  headers?: Record<string, string>;
  /** Text as it is, anything else as JSON. */
  body?: unknown;
}

const [file, command, ...args] = process.argv.slice(2).filter((word, at) => at !== 1 || word !== '--');
if (file === undefined || command === undefined)
  throw new Error('usage: capture-tests ANSWERS -- COMMAND [ARG…]');
const answers = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Answer>;
const unexpected: string[] = [];

/** `GET https://api.example.com/users?page=2` */
function answer(request: IncomingMessage, response: ServerResponse): void {
  const scheme = 'encrypted' in request.socket ? 'https' : 'http';
  const call = `${request.method} ${scheme}://${request.headers.host}${request.url}`;
  const known = answers[call];
  if (known === undefined) {
    unexpected.push(call);
    response.writeHead(501).end(`no answer for ${call}\n`);
    return;
  }
  const { status = 200, headers = {}, body = '' } = known;
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const type = typeof body === 'string' ? 'text/plain' : 'application/json';
  response.writeHead(status, { 'content-type': type, ...headers }).end(text);
}

async function listening(server: Server): Promise<{ address: string; port: number }> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { address, port } = server.address() as AddressInfo;
  return { address, port };
}

using authority = new Authority();
const plain = createServer(answer);
const secure = createTlsServer(
  {
    SNICallback: (name, done) => {
      try {
        done(null, authority.contextFor(name));
      } catch (error) {
        done(error as Error);
      }
    },
  },
  answer,
);
const mocks = { http: await listening(plain), tls: await listening(secure) };

// Every name has the same addresses: where a call was going says its Host header, and SNI.
const addresses = ['192.0.2.80', '2001:db8::80'];
await using dns = createDnsForwarder({ upstream: 'original', policy: () => ({ addresses }) });
dns.listen({ host: '127.0.0.1' });
await once(dns, 'listening');

await using capture = await createCapture({
  dns: { upstream: dns.address()! },
  inspect: {},
  udp: 'reject',
  decide: (destination, _client, first) => {
    if (first?.protocol === 'tls' || first?.protocol === 'http')
      return { action: 'relay', to: mocks[first.protocol] };
    unexpected.push(
      destination.kind === 'unknown' ? 'TCP' : `TCP ${destination.address} ${destination.port}`,
    );
    return 'reset';
  },
});
capture.on('error', (error) => console.error(error.message));

const trusted = [
  'NODE_EXTRA_CA_CERTS',
  'SSL_CERT_FILE',
  'CURL_CA_BUNDLE',
  'REQUESTS_CA_BUNDLE',
  'GIT_SSL_CAINFO',
];
const env = { ...process.env, ...Object.fromEntries(trusted.map((name) => [name, authority.file])) };
const child = capture.spawn(command, args, { stdio: 'inherit', env });
const [status] = (await once(child, 'exit')) as [number | null];
for (const call of unexpected) console.error(`unexpected: ${call}`);
process.exitCode = unexpected.length > 0 ? 1 : (status ?? 1);
for (const server of [plain, secure]) server.close().closeAllConnections();
