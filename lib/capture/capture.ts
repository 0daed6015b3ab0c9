// createCapture(): a namespace in which all that is sent comes to a policy.
import type { ChildProcess } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import type { Endpoint } from '../address.ts';
import { createDnsForwarder, type DnsForwarder, type DnsRecord } from '../dns/forwarder.ts';
import type { DnsForwarderOptions } from '../dns/options.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import { NameTable } from '../names/name-table.ts';
import { Namespace, type NamespaceSpawnOptions } from '../namespace/namespace.ts';
import type { PolicySubject } from '../policy/name-policy.ts';
import type { KnownDst, OriginalDst } from '../recover/original-dst.ts';
import type { ClientProcess } from '../recover/proc.ts';
import { type ConnectionEnds, processOf } from '../recover/process-of.ts';
import type { RelayDecision } from '../relay/decision.ts';
import type { Relay } from '../relay/relay-object.ts';
import { createRelayServer } from '../relay/relay-server.ts';
import type { RelayServer } from '../relay/types.ts';
import type { PendingConnection } from '../relay/undecided.ts';
import { createDatagramSocket } from '../udp/datagram-socket.ts';
import { type CaptureOptions, checkCaptureOptions } from './options.ts';
import { hostResolver } from './resolver.ts';
import { captureAll, checkTools, openRefusals, OWN_ADDRESSES } from './setup.ts';
import { type CapturedFlow, UdpRelay } from './udp-relay.ts';

/** What was refused, as far as it is known. */
export interface Denial {
  protocol: 'tcp' | 'udp' | 'dns';
  name: string | undefined;
  destination: Readonly<Pick<Endpoint, 'address' | 'port'>> | undefined;
  /** In words, as `NamePolicy.explain` says it. */
  because: string;
  /** Who has dialled, sent or asked, with `processes`, if it is certain. */
  process: ClientProcess | undefined;
}

export interface CaptureEvents {
  /** A connection is dialled on. `process`: who has dialled, with `processes`, if it is certain. */
  relay: [
    relay: Relay,
    destination: OriginalDst,
    client: Endpoint,
    name: string | undefined,
    process: ClientProcess | undefined,
  ];
  /** The first datagram of a flow is passed on. */
  datagrams: [flow: CapturedFlow];
  /** A question for a resolver, and what became of it. */
  query: [record: DnsRecord, process: ClientProcess | undefined];
  denied: [denial: Denial];
  error: [error: Error];
}

/** From all addresses that programs in there can ask from: they are one client. */
const CLIENTS = ['127.0.0.1', '::1', ...Object.values(OWN_ADDRESSES)];

/** A namespace whose traffic comes to a policy. Made by {@link createCapture}. */
export class Capture extends EventEmitter<CaptureEvents> {
  /** Where the captured programs are. */
  readonly namespace: Namespace;
  readonly #options: CaptureOptions;
  readonly #outside = Namespace.current();
  readonly #names = new NameTable();
  readonly #servers: RelayServer[] = [];
  #dns: DnsForwarder | undefined;
  #udp: UdpRelay | undefined;
  /** Who has dialled or asked, by the client's address as each event is given it. */
  readonly #processes = new WeakMap<object, ClientProcess>();
  #closed = false;

  /** @internal */
  constructor(options: CaptureOptions, namespace: Namespace) {
    super();
    this.#options = options;
    this.namespace = namespace;
  }

  /** @internal */
  async start(): Promise<void> {
    const { inspect, dns = true, udp = 'relay' } = this.#options;
    const tcp = createRelayServer({
      namespace: this.#outside,
      decide: (...question) => this.#decide(...question),
      ...(inspect === undefined ? {} : { inspect }),
    });
    tcp.on('relay', (relay, destination, client, first) =>
      this.emit(
        'relay',
        relay,
        destination,
        client,
        this.#nameOf(destination as KnownDst, first),
        this.#processes.get(client),
      ),
    );
    const port = await this.#listen(tcp, { port: 0, namespace: this.namespace });
    const udpPort = udp === 'relay' ? this.#startUdp() : undefined;
    if (dns !== false) await this.#startDns(dns === true ? undefined : dns.upstream);
    await captureAll(this.namespace, {
      tcp: port,
      dns: this.#dns?.address()!.port,
      udp: udpPort,
    });
  }

  /** As child_process.spawn, captured. */
  spawn(command: string, args: readonly string[] = [], options: NamespaceSpawnOptions = {}): ChildProcess {
    return this.namespace.spawn(command, args, options);
  }

  /**
   * Lets captured programs reach a service on this host's loopback interface, at their own.
   *
   * @param inside the port that they dial at 127.0.0.1 or ::1
   * @param port the port that it has out here
   * @throws as listen(2): `EADDRINUSE`
   */
  async hostPort(inside: number, port: number = inside): Promise<void> {
    const server = createRelayServer({
      namespace: this.#outside,
      decide: () => ({ action: 'relay', to: { address: '127.0.0.1', port } }),
    });
    await this.#listen(server, { port: inside, namespace: this.namespace });
  }

  /**
   * Lets a server that listens in there be reached out here, on the loopback interface.
   *
   * @throws as listen(2): `EADDRINUSE`
   */
  async publish(port: number): Promise<void> {
    const server = createRelayServer({
      namespace: this.namespace,
      decide: () => ({ action: 'relay', to: { address: '127.0.0.1', port } }),
    });
    await this.#listen(server, { port, host: '127.0.0.1', namespace: this.#outside });
  }

  /** Ends every connection and flow. What still runs in there can reach nobody from here on. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const servers = this.#servers.map((server) => {
      const closed = server[Symbol.asyncDispose]();
      server.destroy();
      return closed;
    });
    this.#udp?.close();
    await Promise.all([...servers, this.#dns?.[Symbol.asyncDispose]()]);
    this.namespace.close();
    this.#outside.close();
  }

  /** {@link close} */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #listen(server: RelayServer, where: Parameters<RelayServer['listen']>[0] & object): Promise<number> {
    this.#servers.push(server);
    server.listen(where);
    await once(server, 'listening');
    server.on('error', (error) => this.emit('error', error));
    return server.address()!.port;
  }

  #startUdp(): number {
    const { namespace } = this;
    // The refusals first: they need not be closed if the other cannot be opened.
    const refusals = openRefusals(namespace);
    const socket = createDatagramSocket({ namespace });
    this.#udp = new UdpRelay(refusals, socket, (...flow) => this.#admit(...flow));
    return socket.address().port;
  }

  async #startDns(upstream: DnsForwarderOptions['upstream'] = hostResolver()): Promise<void> {
    const { policy } = this.#options;
    const dns = createDnsForwarder({
      upstream,
      names: this.#names,
      ...(policy === undefined ? {} : { policy }),
    });
    this.#dns = dns;
    // It need not wait for the answer, and then its socket is gone.
    dns.on('question', (_, { client, destination, protocol }) => {
      /* c8 ignore next -- only if conntrack has lost the entry by now */
      if (destination.kind === 'unknown') return;
      this.#whoSent(client, destination, protocol);
    });
    dns.on('query', (record) => {
      const process = this.#processes.get(record.client);
      this.emit('query', record, process);
      const { name } = record.question;
      const because = this.#explain({ name });
      if (record.outcome === 'refused' && because !== undefined)
        this.#deny('dns', name, undefined, because, process);
    });
    dns.listen({ namespace: this.namespace });
    await once(dns, 'listening');
    dns.on('error', (error) => this.emit('error', error));
  }

  /**
   * What the destination is called. A client's own word counts only if it asked DNS for that name and was told this
   * address: else any address could be reached by the name of another.
   */
  #nameOf(destination: Pick<Endpoint, 'address'>, first: FirstBytes | undefined): string | undefined {
    const told = CLIENTS.flatMap((client) => this.#names.all(destination, client));
    if (first?.name === undefined) return told[0];
    return this.#dns === undefined || told.includes(first.name) ? first.name : undefined;
  }

  #explain(subject: PolicySubject): string | undefined {
    const found = this.#options.policy?.explain(subject);
    return found === undefined || found.allowed ? undefined : found.because;
  }

  #deny(
    protocol: Denial['protocol'],
    name: string | undefined,
    destination: Denial['destination'],
    because: string,
    process?: ClientProcess,
  ): void {
    this.emit('denied', { protocol, name, destination, because, process });
  }

  /** Asked while the client waits for the verdict or an answer: its socket is there yet. */
  #whoSent(
    client: ConnectionEnds['client'],
    destination: ConnectionEnds['destination'],
    protocol: 'tcp' | 'udp',
  ): ClientProcess | undefined {
    if (this.#options.processes !== true) return undefined;
    try {
      const found = processOf({ client, destination }, { namespace: this.namespace, protocol });
      if (found !== undefined) this.#processes.set(client, found);
      return found;
    } catch {
      // No descriptors left to ask with, say: no reason to end a connection.
      return undefined;
    }
  }

  #decide(
    destination: OriginalDst,
    client: Endpoint,
    first: FirstBytes | undefined,
    connection: PendingConnection,
  ): RelayDecision | PromiseLike<RelayDecision> {
    /* c8 ignore next -- only if conntrack has lost the entry by now; a relay of it would be refused as well */
    if (destination.kind === 'unknown') return 'reset';
    const name = this.#nameOf(destination, first);
    const { address, port } = destination;
    const process = this.#whoSent(client, destination, 'tcp');
    const because = this.#explain({
      name,
      address,
      port,
      protocol: first?.protocol ?? 'tcp',
      ech: first?.ech,
    });
    if (because !== undefined) {
      this.#deny('tcp', name ?? first?.name, { address, port }, because, process);
      return 'reset';
    }
    return this.#options.decide?.(destination, client, first, connection) ?? 'relay';
  }

  #admit(destination: Readonly<Endpoint>, client: Readonly<Endpoint>): CapturedFlow | undefined {
    const name = this.#nameOf(destination, undefined);
    const because = this.#explain({ name, ...destination, protocol: 'udp' });
    const process = this.#whoSent(client, destination, 'udp');
    if (because !== undefined) {
      this.#deny('udp', name, destination, because, process);
      return undefined;
    }
    const flow: CapturedFlow = { client, destination, name, process, bytesToUpstream: 0, bytesToClient: 0 };
    this.emit('datagrams', flow);
    return flow;
  }
}

/**
 * A user and network namespace (`clone(2)`) in which every TCP connection, whatever its port, comes to the policy of
 * {@link createRelayServer}, DNS to {@link createDnsForwarder}, which asks the resolver of this host, and UDP is relayed by
 * flow, or refused. Anything else is refused at once. Dials leave from this thread's own namespace, as this user.
 *
 * Programs in there have a loopback interface of their own: see {@link Capture.hostPort} and {@link Capture.publish}.
 * When this process ends, however, theirs reach nobody any more, and the namespace goes with the last of them.
 *
 * @throws `ERR_NAMESPACE_UNAVAILABLE`, `ERR_NAMESPACE_TOOL_MISSING`, `ERR_CAPTURE_SETUP`, each with what to do;
 *   argument errors
 * Capability: none.
 */
export async function createCapture(options: CaptureOptions = {}): Promise<Capture> {
  checkCaptureOptions(options);
  checkTools();
  const capture = new Capture(options, await Namespace.create());
  try {
    await capture.start();
    return capture;
  } catch (error) {
    await capture.close();
    throw error;
  }
}
