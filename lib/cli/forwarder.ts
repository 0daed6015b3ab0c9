// The server of `original-dst proxy`: each connection is dialled on, relayed and recorded.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { canonicalAddress, type Endpoint } from '../address.ts';
import { connectOriginal, type ConnectOriginalOptions } from '../dial/connect-original.ts';
import type { ProxyServer } from '../dial/proxy-server.ts';
import { egressRefusal, type EgressPolicy } from '../policy/egress.ts';
import { createServer, type InterceptedSocket, type InterceptServer } from '../accept/intercept.ts';
import type { KnownDst, OriginalDst } from '../recover/original-dst.ts';
import type { Relay } from '../relay/relay-object.ts';
import { createRelayServer } from '../relay/relay-server.ts';
import type { RelayServer } from '../relay/types.ts';
import { relay, type RelayOptions } from '../relay/relay.ts';
import { type AccessRecord, begin, reasonOf } from './access-log.ts';
import type { ListenAddress } from './arguments.ts';

export interface ForwarderOptions {
  transparent: boolean;
  /** How to dial, the same for all connections. */
  dial: Pick<ConnectOriginalOptions, 'preserveSource' | 'portFallback' | 'mark'>;
  /** By way of which proxy. */
  via?: ProxyServer;
  egress: (port: number) => EgressPolicy;
  /** With engine `pipe` Node's streams accept, dial and relay; else the addon does. */
  relay: Required<Pick<RelayOptions, 'engine' | 'idleTimeout'>>;
  /** Called once for each connection, when it has ended. */
  onEnd: (record: AccessRecord) => void;
}

type ClientAddress = Pick<Endpoint, 'address' | 'port'>;

/** A transparent TCP proxy: accepts, dials where the client was going, joins the two. */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly server: RelayServer | InterceptServer;
  readonly #open = new Set<Relay>();
  #ended = { connections: 0, toUpstream: 0, toClient: 0 };

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.server = options.relay.engine === 'pipe' ? this.#streamServer() : this.#nativeServer();
  }

  async listen(where: ListenAddress | { fd: number }): Promise<AddressInfo> {
    this.server.listen(where);
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
    const { transparent, dial, via, relay: limits } = this.#options;
    const server = createRelayServer({
      transparent,
      ...dial,
      idleTimeout: limits.idleTimeout,
      decide: (destination, client) => {
        // What is unknown is refused by the server.
        const refusal =
          destination.kind !== 'unknown' &&
          egressRefusal(this.#options.egress(destination.port), destination);
        if (!refusal) return via === undefined ? 'relay' : { action: 'relay', via };
        const record = begin(client, destination);
        this.#onEnd({ ...record, bytesToUpstream: 0, bytesToClient: 0, durationMs: 0, reason: refusal.code });
        return 'reset';
      },
    });
    return server.on('relay', (joined, destination, client) => {
      this.#follow(joined, client, destination, () => undefined);
    });
  }

  #streamServer(): InterceptServer {
    // Half-open: a client that has said all it has to say still gets its answer.
    return createServer({ transparent: this.#options.transparent, allowHalfOpen: true }, (client) =>
      this.#pipe(client),
    );
  }

  #pipe(client: InterceptedSocket): void {
    const { originalDst, remoteAddress = '', remotePort = 0 } = client;
    // An unknown destination has none, and is refused before the policy is asked.
    const { port = 0 } = originalDst as Partial<KnownDst>;
    // A client that resets before the relay has its socket; the relay tells of it.
    client.on('error', () => {});
    const { dial, via } = this.#options;
    const upstream = connectOriginal(client, {
      ...dial,
      ...(via === undefined ? {} : { via }),
      allowHalfOpen: true,
      egress: this.#options.egress(port),
    });
    // A dial that is refused resets the client too, and to the relay the client is then what is missing.
    let refused: string | undefined;
    upstream.on('error', ({ code }: NodeJS.ErrnoException) => (refused = code));
    const joined = relay(client, upstream, this.#options.relay);
    this.#follow(
      joined,
      /* c8 ignore next -- a client that is gone before it could be looked at has no address */
      { address: canonicalAddress(remoteAddress) ?? '', port: remotePort },
      originalDst,
      () => refused,
    );
  }

  #follow(
    joined: Relay,
    client: ClientAddress,
    destination: OriginalDst,
    refused: () => string | undefined,
  ): void {
    const record = begin(client, destination);
    const started = performance.now();
    this.#open.add(joined);
    joined.once('close', (outcome) => {
      this.#open.delete(joined);
      const { bytesToUpstream, bytesToClient } = joined;
      const durationMs = Math.round(performance.now() - started);
      const reason = (outcome.reason === 'aborted' && refused()) || reasonOf(outcome);
      this.#onEnd({ ...record, bytesToUpstream, bytesToClient, durationMs, reason });
    });
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
    for (const joined of this.#open) joined.destroy();
  }
}
