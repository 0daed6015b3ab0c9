// The servers of the demo, a process of its own on the server's host: HTTP, HTTPS and plain TCP. Each of them tells
// its client who it is and whom it saw. Runs until its standard input ends.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createServer as createTcpServer, type Socket } from 'node:net';
import { canonicalAddress, formatEndpoint } from '../address.ts';
import { programPath } from '../programs.ts';
import { HTTP, HTTPS, SCRATCH, TCP } from './stage.ts';

/** What a server says about a connection. */
export interface Greeting {
  /** The address that the server was reached at. */
  server: string;
  /** The address that the server saw as its client's. */
  client: string;
  /** Plain TCP only: what arrived. */
  sha256?: string;
}

function greeting(socket: Socket): Greeting {
  return {
    server: formatEndpoint({ address: canonicalAddress(socket.localAddress!)!, port: socket.localPort! }),
    client: canonicalAddress(socket.remoteAddress!)!,
  };
}

function answer(request: IncomingMessage, response: ServerResponse): void {
  const body = JSON.stringify(greeting(request.socket));
  // With a length: curl does not count what chunked encoding adds, and the demo compares byte counts.
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length });
  response.end(body);
}

// The answer waits for the client's FIN: without half-close on the way there is none.
function digest(socket: Socket): void {
  const hash = createHash('sha256');
  socket.on('data', (chunk) => hash.update(chunk));
  socket.on('end', () => {
    const told: Greeting = { ...greeting(socket), sha256: hash.digest('hex') };
    socket.end(JSON.stringify(told));
  });
}

const [key, cert] = [`${SCRATCH}/key.pem`, `${SCRATCH}/cert.pem`];
const subject = ['-subj', '/CN=secure.example', '-addext', 'subjectAltName=DNS:secure.example'];
const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
execFileSync(programPath('openssl'), ['req', '-x509', ...kind, ...subject, '-keyout', key, '-out', cert], {
  stdio: ['ignore', 'ignore', 'pipe'],
});

const tls = { key: readFileSync(key), cert: readFileSync(cert) };
const servers = [
  createHttpServer(answer).listen(HTTP.port),
  createHttpsServer(tls, answer).listen(HTTPS.port),
  createTcpServer({ allowHalfOpen: true }, digest).listen(TCP.port),
];
await Promise.all(servers.map((server) => once(server, 'listening')));
console.log('ready');
process.stdin.resume().on('end', () => process.exit());
