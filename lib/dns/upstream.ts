// Asks a resolver on behalf of a client, by UDP or TCP.
import type { Socket } from 'node:net';
import { type Endpoint, familyOf } from '../address.ts';
import { connect } from '../dial/connect.ts';
import { codedError } from '../errors.ts';
import { createDatagramSocket } from '../udp/datagram-socket.ts';
import { answers, encodeQuery, framed, MessageCutter, type Query } from './query.ts';

export interface AskOptions {
  resolver: Pick<Endpoint, 'address' | 'port'>;
  mark: number;
  /** Milliseconds. */
  timeout: number;
}

const randomId = (): number => crypto.getRandomValues(new Uint16Array(1))[0]!;

function noAnswer(why: string): Error {
  return codedError('ERR_DNS_NO_ANSWER', `The resolver has not answered: ${why}`);
}

/** A socket for each question: its port is as hard to guess as its id, and a forged answer must hit both. */
export function askByUdp(
  query: Query,
  { resolver, mark, timeout }: AskOptions,
  over: AbortSignal,
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const address = familyOf(resolver.address) === 'IPv4' ? '0.0.0.0' : '::';
    const socket = createDatagramSocket({ address, mark });
    const sent = encodeQuery(query, randomId());
    const end = (): void => {
      clearTimeout(timer);
      over.removeEventListener('abort', end);
      socket.close();
      reject(noAnswer('in time'));
    };
    const timer = setTimeout(end, timeout);
    over.addEventListener('abort', end);
    socket.on('message', (message, { source }) => {
      const expected = source.address === resolver.address && source.port === resolver.port;
      if (!expected || !answers(message, sent)) return;
      resolve(Buffer.from(message));
      end();
    });
    const error = socket.send(sent, { destination: resolver });
    if (!error) return;
    reject(error);
    end();
  });
}

/** One connection to a resolver, for the questions of one client; made when there is one. */
export class TcpResolver {
  readonly #options: AskOptions;
  readonly #waiting = new Map<
    number,
    { sent: Buffer; resolve: (answer: Buffer) => void; reject: (error: Error) => void }
  >();
  #socket: Socket | undefined;

  constructor(options: AskOptions) {
    this.#options = options;
  }

  /** Questions may be asked before others are answered, and the answers come in any order (RFC 7766). */
  ask(query: Query): Promise<Buffer> {
    let id: number;
    do id = randomId();
    while (this.#waiting.has(id));
    const sent = encodeQuery(query, id);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { sent, resolve, reject });
      (this.#socket ??= this.#connect()).write(framed(sent));
    });
  }

  /** FIN, when nothing more will be asked and everything has been answered. */
  end(): void {
    this.#socket?.end();
  }

  destroy(): void {
    this.#socket?.destroy();
  }

  #connect(): Socket {
    const { resolver, mark, timeout } = this.#options;
    const socket = connect({ ...resolver, timeout, allowHalfOpen: true, ...(mark ? { mark } : {}) });
    const cutter = new MessageCutter();
    let cause = noAnswer('its connection has ended');
    socket.on('data', (chunk) => {
      for (const message of cutter.push(chunk)) this.#onMessage(message);
    });
    socket.on('end', () => socket.destroy());
    socket.on('timeout', () => socket.destroy(noAnswer('in time')));
    socket.on('error', (error) => (cause = error));
    socket.on('close', () => {
      this.#socket = undefined;
      for (const { reject } of this.#waiting.values()) reject(cause);
      this.#waiting.clear();
    });
    return socket;
  }

  #onMessage(message: Buffer): void {
    const id = message.length < 2 ? -1 : message.readUInt16BE();
    const waiting = this.#waiting.get(id);
    if (!waiting || !answers(message, waiting.sent)) return;
    this.#waiting.delete(id);
    waiting.resolve(message);
  }
}
