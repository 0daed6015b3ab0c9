// One pod: the proxy's sockets and rules inside its network namespace.
import { once } from 'node:events';
import {
  createDnsForwarder,
  createRelayServer,
  Namespace,
  type DnsForwarder,
  type RelayServer,
} from 'original-dst';
import { MARK, NO_RULES, PORTS, ROUTES, RULES } from './rules.ts';

export type Log = (event: string, about: object) => void;

export class Pod {
  readonly #namespace: Namespace;
  readonly #servers: RelayServer[] = [];
  #dns: DnsForwarder | undefined;
  readonly #log: Log;

  /** @param path of its network namespace: /run/netns/…, /proc/PID/ns/net */
  constructor(path: string, log: Log) {
    this.#namespace = Namespace.of(path);
    this.#log = log;
  }

  /** Sockets first: what the rules lead here is to find somebody. */
  async start(): Promise<void> {
    const namespace = this.#namespace;
    // Dialled in the pod, as all that follows: a relay server dials where it listens.
    await this.#listen('outbound', createRelayServer({ mark: MARK, decide: () => 'relay' }));
    // From the client's own address: the application sees who calls.
    const inbound = { mark: MARK, preserveSource: true, decide: () => 'relay' as const };
    await this.#listen('inbound', createRelayServer(inbound));
    this.#dns = createDnsForwarder({ upstream: 'original', mark: MARK });
    this.#dns.on('query', ({ question, outcome }) => this.#log('query', { ...question, outcome }));
    this.#dns.listen({ port: PORTS.dns, namespace });
    await once(this.#dns, 'listening');
    this.#dns.on('error', ({ message }) => this.#log('error', { message }));
    for (const route of ROUTES) for (const family of ['-4', '-6']) await this.#run(['ip', family, ...route]);
    await this.#run(['nft', '-f', '-'], RULES);
  }

  /** Takes the rules away, lets open connections end, and, after so many milliseconds, ends those that have not. */
  async stop(grace: number): Promise<void> {
    await this.#run(['nft', '-f', '-'], NO_RULES).catch(({ message }: Error) =>
      this.#log('error', { message }),
    );
    const late = setTimeout(() => {
      for (const server of this.#servers) server.destroy();
    }, grace);
    await Promise.all(this.#servers.map((server) => server[Symbol.asyncDispose]()));
    clearTimeout(late);
    await this.#dns?.[Symbol.asyncDispose]();
    this.#namespace.close();
  }

  async #listen(direction: 'outbound' | 'inbound', server: RelayServer): Promise<void> {
    this.#servers.push(server);
    server.on('relay', (relay, destination, client) => {
      relay.once('close', (outcome) => {
        const error = outcome.reason === 'error' ? { error: outcome.error.code } : {};
        const { bytesToUpstream: up, bytesToClient: down } = relay;
        const { reason } = outcome;
        const to = destination.kind === 'unknown' ? undefined : `${destination.address} ${destination.port}`;
        this.#log('relay', { direction, client: client.address, to, up, down, reason, ...error });
      });
    });
    server.listen({ port: PORTS[direction], namespace: this.#namespace });
    await once(server, 'listening');
    server.on('error', ({ message }) => this.#log('error', { message }));
  }

  async #run(command: [string, ...string[]], input = ''): Promise<void> {
    const { status, stderr } = await this.#namespace.run(command, { input });
    // A rule that is there already is as it should be.
    if (status !== 0 && !stderr.includes('File exists'))
      throw new Error(`${command.join(' ')}: ${stderr.trim()}`);
  }
}
