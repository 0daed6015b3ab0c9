// attachListener(): what is delivered to this host at many ports comes to one socket.
import { Server } from 'node:net';
import { checkOptionNames, invalidType } from '../arguments.ts';
import { binding } from '../binding.ts';
import { codedError } from '../errors.ts';
import { withFd } from '../node/socket-fd.ts';
import { NativeRelayServer } from '../relay/native-server.ts';
import type { RelayServer } from '../relay/types.ts';
import type { Family, PortRange } from '../rules/config/config.ts';
import { parsePorts, toPrefixes } from '../rules/config/ranges.ts';
import { DatagramSocket } from '../udp/datagram-socket.ts';
import type { InterceptedDatagramSocket } from '../udp/types.ts';
import { attachError } from './failure.ts';
import { packPrefixes, readPrefixes } from './flows.ts';

/** What comes to which socket. */
export interface ListenerOptions {
  /** Destination ports: `[443, '8000-8999']`. Programs that listen there get nothing while this is attached. */
  ports: readonly PortRange[];
  /** Destination addresses: `192.0.2.1`, `2001:db8::/32`. Default: all that are delivered to this network namespace. */
  addresses?: readonly string[];
  /** Gets the connections; it listens already. */
  tcp?: Server | RelayServer;
  /** Gets the datagrams. */
  udp?: InterceptedDatagramSocket;
  /** As of attachCapture. */
  token?: string;
}

const OPTIONS: ReadonlySet<string> = new Set<keyof ListenerOptions>([
  'addresses',
  'ports',
  'tcp',
  'token',
  'udp',
]);
const EVERYWHERE = ['0.0.0.0/0', '::/0'];

/** Calls `use` with the descriptor of a server, which throws if that has none. */
function withServer<T>(name: string, server: unknown, use: (fd: number) => T): T {
  let answer: { value: T } | undefined;
  if (server instanceof Server && typeof server.address() === 'string')
    throw invalidType(name, 'a server of an IP address', server);
  if (server instanceof Server) answer = withFd(server, (fd) => ({ value: use(fd) }));
  else if (server instanceof NativeRelayServer || server instanceof DatagramSocket)
    answer = server.fd === undefined ? undefined : { value: use(server.fd) };
  else throw invalidType(name, 'a server or socket of this package or of node:net', server);
  if (answer) return answer.value;
  throw codedError('ERR_SERVER_NOT_RUNNING', `${name} does not listen`, {
    hint: "wait for 'listening' first",
  });
}

function readPorts(ports: unknown): Uint16Array {
  if (!Array.isArray(ports) || ports.length === 0)
    throw invalidType('options.ports', 'an array that is not empty', ports);
  const all = (ports as PortRange[]).flatMap((range) => {
    const { first, last } = parsePorts('options.ports', range);
    return Array.from({ length: Number(last - first) + 1 }, (_, index) => Number(first) + index);
  });
  return Uint16Array.from(new Set(all));
}

function readAddresses(addresses: unknown = EVERYWHERE): Record<Family, Uint8Array> {
  if (!Array.isArray(addresses)) throw invalidType('options.addresses', 'an array', addresses);
  const ranges = readPrefixes('options.addresses', addresses as string[]);
  const pack = (family: Family): Uint8Array => {
    const prefixes = ranges[family].flatMap((range) => toPrefixes(range, family));
    return packPrefixes(new Map(prefixes.map((prefix) => [prefix, 1n])), family);
  };
  return { IPv4: pack('IPv4'), IPv6: pack('IPv6') };
}

/** A listener that is attached. Made by {@link attachListener}. */
export class PortListener {
  readonly #id: number;
  #last: number | undefined;

  /** @internal */
  constructor(id: number) {
    this.#id = id;
  }

  /** `led`: connections (their retransmitted SYNs too) and datagrams that the program has led to the sockets. */
  get stats(): { led: number } {
    return { led: this.#last ?? binding().listenerCount(this.#id)! };
  }

  /** From now on packets come to whoever listens at their port. Open connections go on; the sockets stay open. */
  close(): void {
    if (this.#last !== undefined) return;
    this.#last = this.stats.led;
    binding().listenerClose(this.#id);
  }

  /** {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}

/**
 * `BPF_PROG_TYPE_SK_LOOKUP`: what is delivered to this network namespace at any of `ports` comes to one socket, without
 * rules, marks and NAT. Servers of this package say `tproxy`: the local address is the destination.
 *
 * Addresses that are not this host's are delivered after `ip route add local PREFIX dev lo`. The end of the process
 * ends it. Listen on all addresses, of IPv6 too: a socket of one family gets that family's packets alone.
 *
 * @throws argument errors, `ERR_RULES_PORT`, `ERR_RULES_ADDRESS`, `ERR_SERVER_NOT_RUNNING`, system errors of bpf
 * Capability: CAP_BPF and CAP_NET_ADMIN, or `token`. Kernel: 5.9. Source: Documentation/bpf/prog_sk_lookup.rst.
 */
export function attachListener(options: ListenerOptions): PortListener {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  checkOptionNames('attachListener', Object.keys(options), OPTIONS);
  const { tcp, udp, token } = options;
  if (tcp === undefined && udp === undefined) throw invalidType('options.tcp', 'a server', tcp);
  if (token !== undefined && typeof token !== 'string')
    throw invalidType('options.token', 'of type string', token);
  const ports = readPorts(options.ports);
  const { IPv4, IPv6 } = readAddresses(options.addresses);
  const open = (stream: number, datagram: number) =>
    binding().listenerOpen(ports, IPv4, IPv6, stream, stream, datagram, datagram, token ?? null);
  const withUdp = (stream: number) =>
    udp === undefined ? open(stream, -1) : withServer('options.udp', udp, (fd) => open(stream, fd));
  const id = tcp === undefined ? withUdp(-1) : withServer('options.tcp', tcp, withUdp);
  if (typeof id === 'number') return new PortListener(id);
  throw attachError(id);
}
