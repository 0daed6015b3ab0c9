// createDnsForwarder(): answers, refuses or passes on what clients ask of any resolver, and learns names from it.
import { EventEmitter, once } from 'node:events';
import { createServer, type InterceptedSocket } from '../accept/intercept.ts';
import { canonicalAddress, type Endpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { codedError } from '../errors.ts';
import { askedFor } from '../names/answer-addresses.ts';
import { NamePolicy } from '../policy/name-policy.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { createDatagramSocket } from '../udp/datagram-socket.ts';
import type { DatagramInfo, InterceptedDatagramSocket } from '../udp/types.ts';
import {
  checkForwarderOptions,
  type DnsForwarderOptions,
  type DnsListenOptions,
  readVerdict,
} from './options.ts';
import {
  type DnsQuestion,
  encodeAnswer,
  framed,
  MessageCutter,
  type Query,
  RCODE,
  readQuery,
  refusal,
} from './query.ts';
import { askByUdp, type AskOptions, TcpResolver } from './upstream.ts';

/** Who has asked a question. */
export interface DnsAsker {
  client: Readonly<Pick<Endpoint, 'address' | 'port'>>;
  /** The resolver that the client meant. */
  destination: OriginalDst;
  protocol: 'udp' | 'tcp';
}

/** A question and what became of it. */
export interface DnsRecord extends DnsAsker {
  question: DnsQuestion;
  /**
   * `answered` here; `forwarded` to a resolver, which has answered; `refused` and `nxdomain` by the policy, or because
   * this is no resolver that could be meant; `failed`: SERVFAIL, no resolver has answered or none is known.
   */
  outcome: 'answered' | 'forwarded' | 'refused' | 'nxdomain' | 'failed';
}

export interface DnsForwarderEvents {
  listening: [];
  question: [question: DnsQuestion, asker: DnsAsker];
  query: [record: DnsRecord];
  close: [];
  error: [error: Error];
}

/** How often each happened; `malformed` is what could not be read, `dropped` what came while too much was underway. */
export type DnsStats = Record<DnsRecord['outcome'] | 'malformed' | 'dropped', number>;

interface Ask extends DnsAsker {
  ask: (query: Query, options: AskOptions) => Promise<Buffer>;
  room: (query: Query) => number;
}

/** Questions of UDP that are underway, of all clients and of one. */
const [MAX_PENDING, MAX_OF_CLIENT] = [1024, 256];
/** TCP: connections, and questions of one of them that are underway. */
const [MAX_CONNECTIONS, MAX_PIPELINED] = [1024, 64];
const NOTHING = { addresses: [], ttl: 0 };

/** A DNS server between clients and resolvers. Made by {@link createDnsForwarder}. */
export class DnsForwarder extends EventEmitter<DnsForwarderEvents> {
  readonly #options: DnsForwarderOptions;
  readonly #over = new AbortController();
  readonly #stats: DnsStats = {
    answered: 0,
    forwarded: 0,
    refused: 0,
    nxdomain: 0,
    failed: 0,
    malformed: 0,
    dropped: 0,
  };
  readonly #pending = new Map<string, number>();
  #underway = 0;
  #udp: InterceptedDatagramSocket | undefined;

  /** @internal */
  constructor(options: DnsForwarderOptions) {
    super();
    this.#options = options;
  }

  /** A snapshot. */
  get stats(): DnsStats {
    return { ...this.#stats };
  }

  /** Where it listens; null before and after. */
  address(): Endpoint | null {
    return this.#udp && !this.#over.signal.aborted ? { ...this.#udp.address() } : null;
  }

  /** `bind(2)` for UDP, `listen(2)` for TCP on the same port: once. `'listening'` follows, or `'error'`. */
  listen({ port = 0, host = '::', namespace }: DnsListenOptions = {}): this {
    if (this.#udp || this.#over.signal.aborted)
      throw codedError('ERR_SERVER_ALREADY_LISTEN', 'This server has listened already');
    const { transparent = false, mark = 0, conntrackZones } = this.#options;
    const zones = conntrackZones && { conntrackZones };
    const where = namespace && { namespace };
    let udp: InterceptedDatagramSocket;
    try {
      udp = createDatagramSocket({ address: host, port, transparent, mark, ...zones, ...where });
    } catch (error) {
      process.nextTick(() => this.#fail(error as Error));
      return this;
    }
    this.#udp = udp;
    udp.on('message', (message, info) => this.#onDatagram(Buffer.from(message), info));
    const tcp = createServer({ transparent, allowHalfOpen: true }, (client) => this.#onConnection(client));
    tcp.maxConnections = MAX_CONNECTIONS;
    tcp.on('error', (error) => this.#fail(error));
    this.#over.signal.addEventListener('abort', () => {
      udp.close();
      tcp.close(() => this.emit('close'));
    });
    tcp.listen({ port: udp.address().port, host, ...where }, () => this.emit('listening'));
    return this;
  }

  /** Ends all that is underway, at once. `'close'` follows. */
  close(callback?: () => void): this {
    if (callback) this.once('close', callback);
    if (!this.#udp && !this.#over.signal.aborted) process.nextTick(() => this.emit('close'));
    this.#over.abort();
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this, 'close');
    this.close();
    await closed;
  }

  #fail(error: Error): void {
    this.#over.abort();
    this.emit('error', error);
  }

  #onDatagram(message: Buffer, info: DatagramInfo): void {
    const { source } = info;
    const own = this.#pending.get(source.address) ?? 0;
    if (this.#underway >= MAX_PENDING || own >= MAX_OF_CLIENT) {
      this.#stats.dropped++;
      return;
    }
    this.#underway++;
    this.#pending.set(source.address, own + 1);
    const destination: OriginalDst =
      info.kind === 'unknown'
        ? { kind: 'unknown', cause: info.cause }
        : { ...info.destination, kind: info.kind };
    void this.#answer(message, {
      client: source,
      destination,
      protocol: 'udp',
      ask: (query, options) => askByUdp(query, options, this.#over.signal),
      room: (query) => query.room,
    }).then((answer) => {
      this.#underway--;
      const left = this.#pending.get(source.address)! - 1;
      if (left === 0) this.#pending.delete(source.address);
      else this.#pending.set(source.address, left);
      // What the kernel does not take the client asks again.
      if (answer) this.#udp!.reply(answer, info);
    });
  }

  #onConnection(client: InterceptedSocket): void {
    const { timeout = 5000 } = this.#options;
    const resolvers: TcpResolver[] = [];
    const end = (): void => void client.destroy();
    this.#over.signal.addEventListener('abort', end);
    client.setTimeout(2 * timeout, end);
    client.on('error', () => {});
    client.on('close', () => {
      this.#over.signal.removeEventListener('abort', end);
      for (const resolver of resolvers) resolver.destroy();
    });
    const { remoteAddress, remotePort = 0, originalDst } = client;
    /* c8 ignore next -- a client that is gone before it could be looked at has no address */
    if (remoteAddress === undefined) return end();
    const ask: Ask = {
      client: { address: canonicalAddress(remoteAddress)!, port: remotePort },
      destination: originalDst,
      protocol: 'tcp',
      // The resolver is the same for all that one client asks.
      ask: (query, options) => (resolvers[0] ??= new TcpResolver(options)).ask(query),
      room: () => 65535,
    };
    const cutter = new MessageCutter();
    const queue: Buffer[] = [];
    let pending = 0;
    let asked = false;
    const next = (): void => {
      while (pending < MAX_PIPELINED && queue.length > 0) {
        pending++;
        void this.#answer(queue.shift()!, ask).then((answer) => {
          // Of a client that does not read its answers no more questions are read.
          if (answer) client.write(framed(answer), settled);
          else settled();
        });
      }
      if (queue.length > 0) client.pause();
      else client.resume();
      if (!asked || pending > 0) return;
      // A resolver may take FIN for "no answer wanted": it comes behind the last answer.
      resolvers[0]?.end();
      client.end();
    };
    const settled = (): void => {
      pending--;
      next();
    };
    client.on('data', (chunk) => {
      queue.push(...cutter.push(chunk));
      next();
    });
    // A client may send FIN behind its last question.
    client.on('end', () => {
      asked = true;
      next();
    });
  }

  /** The answer to a message, undefined for none. Never rejects. */
  async #answer(message: Buffer, ask: Ask): Promise<Buffer | undefined> {
    const query = readQuery(message);
    if (query === undefined || Buffer.isBuffer(query)) {
      this.#stats.malformed++;
      return query;
    }
    const { question } = query;
    const { client, destination, protocol } = ask;
    const asker: DnsAsker = { client, destination, protocol };
    this.emit('question', question, asker);
    let done: { outcome: DnsRecord['outcome']; answer: Buffer };
    try {
      done = await this.#decide(query, ask);
    } catch (error) {
      done = { outcome: 'failed', answer: refusal(message, RCODE.SERVFAIL) };
      if (!this.#over.signal.aborted) this.emit('error', error as Error);
    }
    this.#stats[done.outcome]++;
    this.emit('query', { question, ...asker, outcome: done.outcome });
    return done.answer;
  }

  async #decide(query: Query, ask: Ask): Promise<{ outcome: DnsRecord['outcome']; answer: Buffer }> {
    const { question } = query;
    const own = (
      outcome: DnsRecord['outcome'],
      rcode: number,
      what: { addresses: readonly string[]; ttl: number } = NOTHING,
    ) => ({
      outcome,
      answer: encodeAnswer(query, rcode, what, ask.room(query)),
    });
    const verdict = readVerdict(await this.#verdict(question, ask));
    if (verdict === 'refuse') return own('refused', RCODE.REFUSED);
    if (verdict === 'nxdomain') return own('nxdomain', RCODE.NXDOMAIN);
    if (verdict !== 'forward') return own('answered', RCODE.NOERROR, verdict);
    const { names, timeout = 5000, mark = 0 } = this.#options;
    if (names?.synthetic && ['A', 'AAAA', 'HTTPS', 'SVCB'].includes(question.type)) {
      const both = names.synthetic.addressesFor(askedFor(question.name) ?? '');
      if (!both) return own('failed', RCODE.SERVFAIL);
      return own('answered', RCODE.NOERROR, { addresses: [both.ipv4, both.ipv6], ttl: 60_000 });
    }
    const resolver = this.#resolver(ask.destination);
    if (typeof resolver === 'number') return own(resolver === RCODE.REFUSED ? 'refused' : 'failed', resolver);
    const answer = await ask.ask(query, { resolver, mark, timeout }).catch(() => undefined);
    if (!answer) return own('failed', RCODE.SERVFAIL);
    names?.learn(answer, ask.client.address);
    answer.writeUInt16BE(query.id);
    return { outcome: 'forwarded', answer };
  }

  #verdict(question: DnsQuestion, { client, destination }: Ask): unknown {
    const { policy, denied = 'refuse' } = this.#options;
    if (policy === undefined) return 'forward';
    if (!(policy instanceof NamePolicy)) return policy(question, client, destination);
    return policy.allowsName(askedFor(question.name) ?? '') ? 'forward' : denied;
  }

  /** Whom to ask, or what to answer instead. */
  #resolver(destination: OriginalDst): Pick<Endpoint, 'address' | 'port'> | number {
    const { upstream } = this.#options;
    if (upstream !== 'original')
      return { address: canonicalAddress(upstream.address)!, port: upstream.port ?? 53 };
    if (destination.kind === 'unknown') return RCODE.SERVFAIL;
    // The client has asked this server itself, which is no resolver.
    return destination.kind === 'direct' ? RCODE.REFUSED : destination;
  }
}

/**
 * A DNS server (RFC 1035, 6891, 7766; UDP and TCP) for what clients ask of any resolver, captured by rules or asked of
 * it directly: a policy decides which names leave this host, and `names` learns which name is behind an address.
 *
 * A resolver is sent the question and nothing else that came with it, from a port and with an id that are random for
 * each; an answer must come from there, with that id and that question. To the client it comes from the resolver that
 * it has asked. Zone transfers, updates and classes other than IN are refused.
 *
 * Events: `'question'` (question, asker) when one has come, `'query'` when it has been answered; `'listening'`, `'close'`, `'error'` (also with what the policy throws:
 * that client is told SERVFAIL).
 *
 * @throws argument errors, `ERR_UNSUPPORTED_PLATFORM`, `ERR_BINDING_NOT_LOADED`
 * Capability: CAP_NET_ADMIN to know the resolver that was meant under REDIRECT (UDP), for `transparent` and `mark`.
 */
export function createDnsForwarder(options: DnsForwarderOptions): DnsForwarder {
  checkForwarderOptions(options);
  const forwarder = new DnsForwarder(options);
  binding();
  return forwarder;
}
