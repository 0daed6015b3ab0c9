// The server of `original-dst proxy`: each connection is dialled on, relayed and recorded.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { canonicalAddress } from '../address.ts';
import { connectOriginal, type ConnectOriginalOptions } from '../dial/connect-original.ts';
import type { ProxyServer } from '../dial/proxy-server.ts';
import { createServer, type InterceptedSocket, type InterceptServer } from '../accept/intercept.ts';
import type { CodedError } from '../errors.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import { inspect } from '../names/inspect.ts';
import { reset } from '../node/reset.ts';
import { type EgressLists, egressRefusal } from '../policy/egress.ts';
import type { NamePolicy } from '../policy/name-policy.ts';
import type { KnownDst, OriginalDst } from '../recover/original-dst.ts';
import type { RelayInspectOptions } from '../relay/inspection.ts';
import { outcomeText } from '../relay/outcome.ts';
import type { Relay } from '../relay/relay-object.ts';
import { createRelayServer } from '../relay/relay-server.ts';
import type { RelayServer } from '../relay/types.ts';
import { relay, type RelayOptions } from '../relay/relay.ts';
import { type AccessRecord, begin } from './access-log.ts';
import type { ListenAddress } from './arguments.ts';
import type { ProxyLimits } from './proxy-limits.ts';

export interface ForwarderOptions {
  transparent: boolean;
  /** How to dial, the same for all connections. */
  dial: Pick<ConnectOriginalOptions, 'preserveSource' | 'portFallback' | 'mark'>;
  /** By way of which proxy. */
  via?: ProxyServer;
  /** Where a dial may go. */
  egress: (port: number) => EgressLists;
  /** What may be asked for, where the name counts too; `egress` then says only where a dial may not go. */
  names?: NamePolicy;
  /** Whose first bytes are looked at. */
  inspect?: RelayInspectOptions;
  /** With engine `pipe` Node's streams accept, dial and relay; else the addon does. */
  relay: Required<Pick<RelayOptions, 'engine' | 'idleTimeout'>>;
  limits: ProxyLimits;
  /** Called once for each connection, when it has ended. */
  onEnd: (record: AccessRecord) => void;
}

/** A transparent TCP proxy: accepts, dials where the client was going, joins the two. */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly server: RelayServer | InterceptServer;
  readonly #open = new Set<Relay>();
  readonly #looking = new AbortController();
  #ended = { connections: 0, toUpstream: 0, toClient: 0 };

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.server = options.relay.engine === 'pipe' ? this.#streamServer() : this.#nativeServer();
  }

  async listen(where: ListenAddress | { fd: number }): Promise<AddressInfo> {
    const { backlog } = this.#options.limits;
    this.server.listen(backlog === undefined ? where : { ...where, backlog });
    await once(this.server, 'listening');
    return this.server.address() as AddressInfo;
  }

  /** Open connections, all connections, and the bytes of all. */
  get totals(): { open: number; connections: number; toUpstream: number; toClient: number } {
    const totals = { open: this.#open.size, ...this.#ended };
    totals.connections += this.#open.size;
    for (const { bytesToUpstream, bytesToClient } of this.#open) {
      totals.toUpstream += bytesToUpstream;
      totals.toClient += bytesToClient;
    }
    return totals;
  }

  #nativeServer(): RelayServer {
    const { transparent, dial, via, inspect, relay: limits } = this.#options;
    const { backlog: _, ...most } = this.#options.limits;
    const server = createRelayServer({
      transparent,
      ...most,
      ...dial,
      idleTimeout: limits.idleTimeout,
      ...(inspect === undefined ? {} : { inspect }),
      decide: (destination, client, first) => {
        const refusal = this.#refusal(destination, first);
        if (!refusal) return via === undefined ? 'relay' : { action: 'relay', via };
        this.#onRefused(begin(client, destination, first), refusal);
        return 'reset';
      },
    });
    return server.on('relay', (joined, destination, client, first) => {
      this.#follow(joined, begin(client, destination, first), () => undefined);
    });
  }

  /** What is unknown is refused by whoever would dial it. */
  #refusal(destination: OriginalDst, first: FirstBytes | undefined): CodedError | undefined {
    if (destination.kind === 'unknown') return undefined;
    const { egress, names } = this.#options;
    const { address, port } = destination;
    const { name, ech, protocol } = first ?? {};
    return (
      egressRefusal(egress(port), destination) ??
      (names && egressRefusal(names, { address, port, name, ech, protocol }))
    );
  }

  #streamServer(): InterceptServer {
    // Half-open: a client that has said all it has to say still gets its answer.
    const { transparent, limits } = this.#options;
    const { maxConnections = 0, maxPerClient = 0, maxRatePerClient = 0 } = limits;
    const server = createServer(
      { transparent, maxPerClient, maxRatePerClient, allowHalfOpen: true },
      (client) => void this.#pipe(client),
    );
    if (maxConnections > 0) server.maxConnections = maxConnections;
    return server;
  }

  /** Undefined where nobody looks. */
  async #look(client: InterceptedSocket, port: number): Promise<FirstBytes | undefined> {
    const { ports, ...limits } = this.#options.inspect ?? { ports: [] };
    if (ports !== undefined && !ports.includes(port)) return undefined;
    return await inspect(client, { ...limits, signal: this.#looking.signal });
  }

  async #pipe(client: InterceptedSocket): Promise<void> {
    const { originalDst, remoteAddress = '', remotePort = 0 } = client;
    // An unknown destination has none, and is refused before the policy is asked.
    const { port = 0 } = originalDst as Partial<KnownDst>;
    // A client that resets before the relay has its socket; the relay tells of it.
    client.on('error', () => {});
    let first: FirstBytes | undefined;
    try {
      first = await this.#look(client, port);
    } catch {
      // It is gone, or all is to end; nobody has decided about it, and as in the addon's server there is no record.
      reset(client);
      return;
    }
    /* c8 ignore next -- a client that is gone before it could be looked at has no address */
    const from = { address: canonicalAddress(remoteAddress) ?? '', port: remotePort };
    const record = begin(from, originalDst, first);
    const refusal = this.#refusal(originalDst, first);
    if (refusal) {
      reset(client);
      this.#onRefused(record, refusal);
      return;
    }
    const { dial, via } = this.#options;
    const upstream = connectOriginal(client, {
      ...dial,
      ...(via === undefined ? {} : { via }),
      allowHalfOpen: true,
    });
    // A dial that is refused resets the client too, and to the relay the client is then what is missing.
    let refused: string | undefined;
    upstream.on('error', ({ code }: NodeJS.ErrnoException) => (refused = code));
    this.#follow(relay(client, upstream, this.#options.relay), record, () => refused);
  }

  #follow(joined: Relay, record: ReturnType<typeof begin>, refused: () => string | undefined): void {
    const started = performance.now();
    this.#open.add(joined);
    joined.once('close', (outcome) => {
      this.#open.delete(joined);
      const { bytesToUpstream, bytesToClient } = joined;
      const durationMs = Math.round(performance.now() - started);
      const reason = (outcome.reason === 'aborted' && refused()) || outcomeText(outcome);
      this.#onEnd({ ...record, bytesToUpstream, bytesToClient, durationMs, reason });
    });
  }

  #onRefused(record: ReturnType<typeof begin>, { code: reason }: CodedError): void {
    this.#onEnd({ ...record, bytesToUpstream: 0, bytesToClient: 0, durationMs: 0, reason });
  }

  #onEnd(record: AccessRecord): void {
    this.#ended.connections++;
    this.#ended.toUpstream += record.bytesToUpstream;
    this.#ended.toClient += record.bytesToClient;
    this.#options.onEnd(record);
  }

  /** No more connections; those that are open have so many milliseconds to end by themselves. */
  async drain(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.destroy(), graceMs);
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
    // Node's server is done with the clients' sockets a moment before the relays are with the upstreams'.
    await Promise.all([...this.#open].map((joined) => once(joined, 'close')));
    clearTimeout(timer);
  }

  /** No more connections, and no connection. */
  close(): void {
    this.server.close();
    this.destroy();
  }

  /** Ends all connections at once. */
  destroy(): void {
    // Those too about which it is not decided yet.
    this.#looking.abort();
    if ('destroy' in this.server) this.server.destroy();
    for (const joined of this.#open) joined.destroy();
  }
}
