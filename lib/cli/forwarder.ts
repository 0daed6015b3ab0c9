import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { unmap } from '../address.ts';
import { connectOriginal, type ConnectOriginalOptions } from '../connect-original.ts';
import type { EgressPolicy } from '../egress.ts';
import { createServer, type InterceptedSocket, type InterceptServer } from '../intercept.ts';
import type { KnownDst } from '../original-dst.ts';
import { relay, type RelayOptions } from '../relay.ts';
import type { Relay } from '../relay-object.ts';
import { type AccessRecord, begin, reasonOf } from './access-log.ts';
import type { ListenAddress } from './arguments.ts';

export interface ForwarderOptions {
  transparent: boolean;
  /** How to dial, the same for all connections. */
  dial: ConnectOriginalOptions;
  egress: (port: number) => EgressPolicy;
  relay: RelayOptions;
  /** Called once for each connection, when it has ended. */
  onEnd: (record: AccessRecord) => void;
}

/** A transparent TCP proxy: accepts, dials where the client was going, joins the two. */
export class Forwarder {
  readonly #options: ForwarderOptions;
  readonly #server: InterceptServer;
  readonly #open = new Set<Relay>();
  #ended = { connections: 0, toUpstream: 0, toClient: 0 };

  constructor(options: ForwarderOptions) {
    this.#options = options;
    // Half-open: a client that has said all it has to say still gets its answer.
    this.#server = createServer({ transparent: options.transparent, allowHalfOpen: true }, (client) =>
      this.#forward(client),
    );
  }

  async listen(address: ListenAddress): Promise<AddressInfo> {
    this.#server.listen(address);
    await once(this.#server, 'listening');
    return this.#server.address() as AddressInfo;
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

  #forward(client: InterceptedSocket): void {
    const { originalDst, remoteAddress = '', remotePort = 0 } = client;
    // An unknown destination has none, and is refused before the policy is asked.
    const { port = 0 } = originalDst as Partial<KnownDst>;
    const started = performance.now();
    const record = begin({ address: unmap(remoteAddress), port: remotePort }, originalDst);
    // A client that resets before the relay has its socket; the relay tells of it.
    client.on('error', () => {});
    const upstream = connectOriginal(client, {
      ...this.#options.dial,
      allowHalfOpen: true,
      egress: this.#options.egress(port),
    });
    // A dial that is refused resets the client too, and to the relay the client is then what is missing.
    let refused: string | undefined;
    upstream.on('error', ({ code }: NodeJS.ErrnoException) => (refused = code));
    const joined = relay(client, upstream, this.#options.relay);
    this.#open.add(joined);
    joined.once('close', (outcome) => {
      this.#open.delete(joined);
      const { bytesToUpstream, bytesToClient } = joined;
      this.#ended.connections++;
      this.#ended.toUpstream += bytesToUpstream;
      this.#ended.toClient += bytesToClient;
      const durationMs = Math.round(performance.now() - started);
      const reason = (outcome.reason === 'aborted' && refused) || reasonOf(outcome);
      this.#options.onEnd({ ...record, bytesToUpstream, bytesToClient, durationMs, reason });
    });
  }

  /** No more connections; those that are open have so many milliseconds to end by themselves. */
  async drain(graceMs: number): Promise<void> {
    this.#server.close();
    const timer = setTimeout(() => this.destroy(), graceMs);
    await Promise.all([...this.#open].map((joined) => once(joined, 'close')));
    clearTimeout(timer);
  }

  /** No more connections, and no connection. */
  close(): void {
    this.#server.close();
    this.destroy();
  }

  /** Ends all connections at once. */
  destroy(): void {
    for (const joined of this.#open) joined.destroy();
  }
}
