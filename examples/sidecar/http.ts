// HTTP/1: every request is passed on over the connection that was dialled for its own, headers as they came, and
// written down with where it was really going.
import { Agent, createServer, request as send, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { relay } from 'original-dst';
import { log } from './access-log.ts';
import { sessions, type Facts, type Session } from './session.ts';
import { counter } from './stats.ts';

const requests = counter(
  'sidecar_http_requests_total',
  'HTTP requests, by response status; 0: none came.',
  'direction',
  'status',
);

/** Envoy's limit for the headers of a request or an answer, in bytes: tokens of single sign-on are that long. */
const maxHeaderSize = 60 * 1024;

/** One client connection with the one upstream connection that belongs to it. */
class Exchange extends Agent implements Session {
  readonly facts: Facts;
  readonly client: Socket;
  readonly upstream: Socket;
  active = 0;
  draining = false;

  constructor(facts: Facts, client: Socket, upstream: Socket) {
    super({ keepAlive: true, maxSockets: 1 });
    this.facts = facts;
    this.client = client;
    this.upstream = upstream;
    sessions.add(this);
    client.on('close', () => {
      sessions.delete(this);
      upstream.destroy();
    });
    // The server's end of a keep-alive connection is the client's too, once it has its answer.
    upstream.on('close', () => this.endIfIdle());
  }

  /** The agent's way to a connection: there is one, and no other. */
  override createConnection(): Socket {
    return this.upstream;
  }

  endIfIdle(): void {
    if (this.active === 0 && (this.draining || this.upstream.destroyed)) this.client.end();
  }

  drain(): void {
    this.draining = true;
    this.endIfIdle();
  }

  override destroy(): void {
    this.client.destroy();
  }
}

const exchanges = new WeakMap<Socket, Exchange>();

function record(exchange: Exchange, request: IncomingMessage, start: number, status: number): void {
  const { facts } = exchange;
  requests.inc({ direction: facts.direction, status });
  log({
    ...facts,
    protocol: 'http',
    method: request.method,
    host: request.headers.host,
    path: request.url,
    status,
    ms: Math.round(performance.now() - start),
  });
}

function sendOn(exchange: Exchange, request: IncomingMessage): ReturnType<typeof send> {
  const { method, url: path, rawHeaders } = request;
  // HTTP/1.0 may come without a Host, and goes on as HTTP/1.1, which may not.
  const headers =
    request.headers.host === undefined ? ['Host', exchange.facts.destination, ...rawHeaders] : rawHeaders;
  return send({ agent: exchange, method: method!, path: path!, headers, setHost: false, maxHeaderSize });
}

/** The headers of the answer, but for these. */
function headersWithout(answer: IncomingMessage, except: readonly string[]): string[] {
  return answer.rawHeaders.filter((_, i, all) => !except.includes(all[i - (i % 2)]!.toLowerCase()));
}

/** What must not be passed on: an HTTP/1.0 client reads no chunks, and without chunks there are no trailers. */
function unfit(request: IncomingMessage, answer: IncomingMessage): string[] {
  if (request.httpVersion === '1.0') return ['transfer-encoding', 'trailer', 'connection', 'keep-alive'];
  return answer.headers['transfer-encoding'] === undefined ? ['trailer'] : [];
}

function onRequest(request: IncomingMessage, response: ServerResponse): void {
  const exchange = exchanges.get(request.socket)!;
  const start = performance.now();
  exchange.active++;
  const onward = sendOn(exchange, request);
  let status = 0;
  request.pipe(onward);
  onward.on('information', ({ statusCode, headers }) => {
    // 103 Early Hints, which only HTTP/1.1 knows; 100 Continue is Node's own affair on both sides.
    if (statusCode === 103 && request.httpVersion !== '1.0')
      response.writeEarlyHints(headers as Record<string, string | string[]>);
  });
  onward.on('response', (answer) => {
    status = answer.statusCode!;
    response.sendDate = false;
    try {
      response.writeHead(status, answer.statusMessage, headersWithout(answer, unfit(request, answer)));
    } catch {
      // Something that Node reads but would not write. The client must not be told anything else instead.
      exchange.client.destroy();
      return;
    }
    answer.pipe(response, { end: false });
    answer.on('end', () => {
      response.addTrailers(answer.trailers as Record<string, string>);
      response.end();
    });
    // Half an answer must not look like a whole one.
    answer.on('error', () => exchange.client.destroy());
  });
  onward.on('error', () => {
    if (response.headersSent) exchange.client.destroy();
    else response.writeHead(502, { connection: 'close' }).end('no answer from the destination\n');
  });
  response.on('close', () => {
    if (!response.writableFinished) onward.destroy();
    exchange.active--;
    record(exchange, request, start, status);
    exchange.endIfIdle();
  });
}

/** What only makes sense together with an offer to upgrade. */
const OFFER = new Set(['upgrade', 'http2-settings', 'connection']);

/**
 * Is the offer one to leave out? h2c is offered with requests of every kind (by Java, `curl --http2`), hardly ever
 * taken, and gone from HTTP/2 (RFC 9113). And Node reads no body behind an offer.
 */
function isIdleOffer({ headers }: IncomingMessage): boolean {
  const hasBody = headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
  return hasBody || /\bh2c\b/i.test(headers.upgrade!);
}

/** Has the server read the request once more, without its offer. */
function readWithoutOffer(request: IncomingMessage, socket: Socket, head: Buffer): void {
  const { method, url, httpVersion, rawHeaders } = request;
  let lines = `${method} ${url} HTTP/${httpVersion}\r\n`;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (!OFFER.has(rawHeaders[i]!.toLowerCase())) lines += `${rawHeaders[i]}: ${rawHeaders[i + 1]}\r\n`;
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines}\r\n`, 'latin1'), head]));
  server.emit('connection', socket);
}

/** WebSocket and the like: the request goes on as it is, and with 101 both connections become a plain relay. */
function onUpgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
  if (isIdleOffer(request)) {
    readWithoutOffer(request, socket, head);
    return;
  }
  const exchange = exchanges.get(socket)!;
  const start = performance.now();
  exchange.active++;
  const onward = sendOn(exchange, request).end();
  const answerWith = (answer: IncomingMessage, headers: string[]): void => {
    let lines = `HTTP/1.1 ${answer.statusCode} ${answer.statusMessage}\r\n`;
    for (let i = 0; i < headers.length; i += 2) lines += `${headers[i]}: ${headers[i + 1]}\r\n`;
    socket.write(`${lines}\r\n`, 'latin1');
    record(exchange, request, start, answer.statusCode!);
  };
  onward.on('upgrade', (answer, upstream, upstreamHead) => {
    sessions.delete(exchange);
    answerWith(answer, answer.rawHeaders);
    if (head.length > 0) socket.unshift(head);
    if (upstreamHead.length > 0) upstream.unshift(upstreamHead);
    const passing = relay(socket, upstream as Socket, { engine: 'any' });
    const session: Session = { drain: () => {}, destroy: () => void passing.destroy() };
    sessions.add(session);
    passing.on('close', () => sessions.delete(session));
  });
  onward.on('response', (answer) => {
    answerWith(answer, [
      ...headersWithout(answer, ['connection', 'transfer-encoding', 'keep-alive']),
      'Connection',
      'close',
    ]);
    answer.pipe(socket);
  });
  onward.on('error', () => {
    record(exchange, request, start, 0);
    socket.destroy();
  });
}

// It listens nowhere: connections are handed to it. Time limits are the client's and the server's affair.
const server = createServer(
  { requestTimeout: 0, headersTimeout: 0, keepAliveTimeout: 0, maxHeaderSize },
  onRequest,
);
server.on('upgrade', onUpgrade);
server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
  const exchange = exchanges.get(socket);
  if (exchange && error.code !== 'ECONNRESET')
    log({ ...exchange.facts, protocol: 'http', failed: error.message });
  if (error.code === 'HPE_HEADER_OVERFLOW' && socket.writable)
    socket.end('HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n');
  else socket.destroy();
});

export function forwardHttp(facts: Facts, client: Socket, upstream: Socket): void {
  exchanges.set(client, new Exchange(facts, client, upstream));
  server.emit('connection', client);
}
