// A talk with a proxy as a value: what it is sent, how its answers are cut out of a stream, where they end.
import { codedError, type CodedError } from '../errors.ts';

/** One turn of a talk: something to send, which may be nothing, and the answer to it. */
export interface Turn {
  readonly send: Uint8Array;
  /**
   * How many bytes long the answer is, of which `received` has come so far; undefined while that cannot be told.
   * Throws when it can be no answer.
   */
  length(received: Buffer): number | undefined;
}

/** Yields turns, is given their answers, and returns when the proxy has connected. Throws when it has not. */
export type Handshake = Generator<Turn, void, Buffer>;

/** What a proxy may say until it has connected: as much as Node takes for the head of an HTTP message. */
const MOST_BYTES = 16 * 1024;

/** The proxy has said something that its protocol does not have. */
export function malformedAnswer(what: string): CodedError {
  return codedError('ERR_PROXY_PROTOCOL', `The proxy’s answer ${what}`, {
    hint: 'is it a proxy of this protocol, at this port?',
  });
}

/** The error of a proxy that has declined. `proxyStatus`: SOCKS5's reply code, or HTTP's status code. */
export interface ProxyError extends CodedError {
  proxyStatus: number;
}

/** The proxy has said no. */
export function proxyError(
  code: 'ERR_PROXY_AUTH' | 'ERR_PROXY_REFUSED',
  message: string,
  proxyStatus: number,
): ProxyError {
  const hint = code === 'ERR_PROXY_AUTH' ? { hint: 'give the proxy’s `username` and `password`' } : {};
  return Object.assign(codedError(code, message, hint), { proxyStatus });
}

/** A handshake under way: takes the stream in pieces of any size. */
export class Conversation {
  readonly #handshake: Handshake;
  #turn: Turn;
  #received: Buffer = Buffer.alloc(0);
  #taken = 0;

  constructor(handshake: Handshake) {
    this.#handshake = handshake;
    this.#turn = handshake.next().value as Turn;
  }

  /** What is to be sent before the proxy has said anything. */
  get opening(): Uint8Array {
    return this.#turn.send;
  }

  /**
   * @returns what is to be sent next; `rest`, when the proxy has connected: the first bytes of the destination;
   *   undefined while the answer is not whole
   * @throws when it is no answer, or when it is no
   */
  take(piece: Buffer): { send: Uint8Array } | { rest: Buffer } | undefined {
    this.#received = this.#received.length === 0 ? piece : Buffer.concat([this.#received, piece]);
    for (;;) {
      const length = this.#turn.length(this.#received);
      if (this.#taken + (length ?? this.#received.length) > MOST_BYTES) throw malformedAnswer('is too long');
      if (length === undefined || length > this.#received.length) return undefined;
      const answer = this.#received.subarray(0, length);
      this.#received = this.#received.subarray(length);
      this.#taken += length;
      const { done, value } = this.#handshake.next(answer);
      if (done) return { rest: this.#received };
      this.#turn = value;
      if (value.send.length === 0) continue;
      // What has come before the question was put cannot be the answer to it.
      if (this.#received.length > 0) throw malformedAnswer('has more than was asked for');
      return { send: value.send };
    }
  }
}
