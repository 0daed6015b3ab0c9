// processOf(): which process of this host has dialled.
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { canonicalAddress, familyOf, type Endpoint } from '../address.ts';
import { checkInteger, checkString, invalidType, outOfRange } from '../arguments.ts';
import { binding } from '../binding.ts';
import { systemError } from '../errors.ts';
import { Namespace } from '../namespace/namespace.ts';
import { withFd } from '../node/socket-fd.ts';
import { TCP, UDP } from './conntrack-entry.ts';
import { endpointAt, peerStatus, Role } from './kernel-answer.ts';
import { originalDst } from './original-dst.ts';
import { type ClientProcess, describeHolder, holderOf } from './proc.ts';

/** A connection as its client sees it: from where, and to where it has dialled. */
export interface ConnectionEnds {
  client: Pick<Endpoint, 'address' | 'port'>;
  destination: Pick<Endpoint, 'address' | 'port'>;
}

export interface ProcessOfOptions {
  /** Where the client is. Default: the accepted socket's namespace; of a pair of addresses, this thread's. */
  namespace?: Namespace;
  /** Of a pair of addresses: what has gone from one to the other. Default `'tcp'`. */
  protocol?: 'tcp' | 'udp';
}

/** In which a socket has a peer: `tcp_states.h`. A new dial from the same port (SYN_SENT) is another connection. */
const CONNECTED: ReadonlySet<number> = new Set([
  1, // ESTABLISHED
  4, // FIN_WAIT1
  5, // FIN_WAIT2
  8, // CLOSE_WAIT
  9, // LAST_ACK
  11, // CLOSING
]);

/** There is none, it is one of several, or the interface that it would be by is gone. */
const NOBODY_CERTAIN: ReadonlySet<number> = new Set([
  -constants.errno.ENOENT,
  -constants.errno.EEXIST,
  -constants.errno.ENODEV,
]);

interface Found {
  inode: number;
  cookie: bigint;
}

/** The client's own socket, if a process of that namespace has it open. */
function clientSocket(
  where: number,
  { client, destination }: ConnectionEnds,
  udp: boolean,
): Found | undefined {
  if (familyOf(client.address) !== familyOf(destination.address)) return undefined;
  const ends = [client.address, client.port, destination.address, destination.port] as const;
  const found = binding().socketAt(where, ...ends, udp);
  if (typeof found === 'number') {
    if (NOBODY_CERTAIN.has(found)) return undefined;
    throw systemError(found, { syscall: 'netlink', option: 'SOCK_DIAG_BY_FAMILY' });
  }
  const [inode, cookie, state] = found;
  const isClient = udp || CONNECTED.has(state);
  return inode !== 0 && isClient ? { inode, cookie } : undefined;
}

/**
 * Has the socket with these ends another source address for whoever accepts it? NAT gives a connection another port
 * when two clients' connections, to different destinations, would look alike at the proxy. Then `client` is an address
 * that NAT has made up, and a socket that really has it is a third party's.
 *
 * A UDP socket need not have sent anything to be there: it is the client's only if conntrack has seen that it has.
 */
function seenElsewhere(where: number, { client, destination }: ConnectionEnds, udp: boolean): boolean {
  const ends = [client.address, client.port, destination.address, destination.port] as const;
  const seen = binding().conntrackSource(where, ...ends, udp ? UDP : TCP);
  return udp ? seen !== 1 : seen === 0;
}

function find(where: number, ends: ConnectionEnds, udp: boolean): ClientProcess | undefined {
  const socket = clientSocket(where, ends, udp);
  if (socket === undefined || seenElsewhere(where, ends, udp)) return undefined;
  const pid = holderOf(socket.inode);
  const found = pid === undefined ? undefined : describeHolder(pid, socket.inode);
  // The inode's number may have been another socket's by then.
  return found && clientSocket(where, ends, udp)?.cookie === socket.cookie ? found : undefined;
}

/** The connection of an accepted socket; undefined once it has been reset: its addresses may be another one's. */
function endsOf(socket: Socket, fd: number): ConnectionEnds | undefined {
  if (binding().readFacts(fd) !== 0 || peerStatus() !== 0) return undefined;
  const client = endpointAt(Role.peer);
  const destination = originalDst(socket);
  if (destination === undefined) return { client, destination: endpointAt(Role.local) };
  // Behind a proxy: its end is not the client's.
  return destination.kind === 'unknown' || destination.kind === 'proxy' ? undefined : { client, destination };
}

function checkEnd(name: string, end: unknown): Pick<Endpoint, 'address' | 'port'> {
  if (typeof end !== 'object' || end === null) throw invalidType(name, 'of type object', end);
  const { address, port } = end as Endpoint;
  checkString(`${name}.address`, address);
  const literal = canonicalAddress(address);
  if (literal === undefined) throw invalidType(`${name}.address`, 'a literal IP address', address);
  checkInteger(`${name}.port`, port, 0, 65535);
  return { address: literal, port };
}

/**
 * `sock_diag(7)`, then `/proc/PID/fd`: the process of this host that has made an intercepted connection.
 *
 * The answer is about the socket at the client's end of this very connection: undefined when there is none (the client
 * is another host's, or in another network namespace), when its process has closed it or has ended, or when it may not
 * be seen (another user's process without CAP_SYS_PTRACE, hidepid, another pid namespace). Never the process that has
 * the client's port later, nor the one that has a port which NAT has given the client (without CAP_NET_ADMIN conntrack
 * cannot be asked about that, which REDIRECT of several destinations to one port does now and then). Of several that
 * share the socket, the eldest of the family.
 *
 * With `protocol: 'udp'`, of a datagram: the one socket that is bound to the client's address and port, or to that port
 * of any address, and is connected to the destination or to none. Undefined where several share the port (SO_REUSEPORT), and
 * where conntrack does not say that a datagram has gone from here to there, by rules that redirect, and been given no other
 * port on its way. The socket counts that has the port when it is asked: one that has been closed by then is not found, and
 * another that has taken its place cannot be told from it.
 *
 * Looks through `/proc`, first among the processes that have dialled before: milliseconds where there are thousands.
 *
 * @param client an accepted socket, or the two ends: the policy's `client` and `destination` of a relay server
 * @throws argument errors; a system error of netlink or, with a namespace that cannot be entered, of that (`EPERM`)
 * Capability: none for processes of this user, CAP_SYS_PTRACE for others'; CAP_NET_ADMIN, see above. Source: sock_diag(7), proc(5).
 */
export function processOf(
  client: Socket | ConnectionEnds,
  options: ProcessOfOptions = {},
): ClientProcess | undefined {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  const { namespace, protocol = 'tcp' } = options;
  if (namespace !== undefined && !(namespace instanceof Namespace))
    throw invalidType('options.namespace', 'an instance of Namespace', namespace);
  if (protocol !== 'tcp' && protocol !== 'udp')
    throw outOfRange('options.protocol', "'tcp' or 'udp'", protocol);
  if (!(client instanceof Socket)) {
    if (typeof client !== 'object' || client === null)
      throw invalidType('client', 'a net.Socket or an object of two addresses', client);
    const ends = {
      client: checkEnd('client.client', client.client),
      destination: checkEnd('client.destination', client.destination),
    };
    return find(namespace?.fd ?? -1, ends, protocol === 'udp');
  }
  return withFd(client, (fd) => {
    const ends = endsOf(client, fd);
    const found = ends && find(namespace?.fd ?? fd, ends, false);
    // A connection that has been reset meanwhile leaves its addresses to the next.
    return endsOf(client, fd) && found;
  });
}
