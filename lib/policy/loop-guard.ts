// Destinations that this program intercepts itself: refused before a packet is sent.
import { formatEndpoint, type Endpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { codedError, type CodedError } from '../errors.ts';
import type { Namespace } from '../namespace/namespace.ts';
import { here, Place } from '../recover/place.ts';
import { program } from './program.ts';

/** Every claim is made of no namespace too: most ports that are dialled are claimed in none, which is one question. */
const ANYWHERE = 0;

/** How many servers of this thread intercept on a port, by namespace. */
const own = new Map<number, number>();

/** The number of a namespace has 32 bits. */
function keyOf(namespace: number, port: number): number {
  return namespace * 65_536 + port;
}

function change(namespace: number, port: number, by: 1 | -1): void {
  const key = keyOf(namespace, port);
  const count = (own.get(key) ?? 0) + by;
  if (by === 1 && count === 1) binding().claimPort(program(), namespace, port);
  if (count > 0) {
    own.set(key, count);
    return;
  }
  own.delete(key);
  binding().releasePort(program(), namespace, port);
}

/**
 * Lets every thread and cluster worker of this program know that it intercepts on `port` of a network namespace.
 * Where the kernel refuses the claim (no /proc) this thread knows of its own servers all the same.
 *
 * @returns takes the claim back; to be called once
 */
export function claimPort(port: number, { number }: Place): () => void {
  const namespaces = [ANYWHERE, number];
  for (const namespace of namespaces) change(namespace, port, 1);
  return () => {
    for (const namespace of namespaces) change(namespace, port, -1);
  };
}

/** Does this program intercept on `port` there, in whatever thread or cluster worker? */
function isClaimed(namespace: number, port: number): boolean {
  return own.has(keyOf(namespace, port)) || binding().portClaimedElsewhere(program(), namespace, port) === 1;
}

/** Where a dial leaves from: that namespace, that socket's, or this thread's. */
export function dialPlace({ namespace, fd }: { namespace?: Namespace; fd?: number }): Place {
  const where = namespace?.fd ?? fd;
  return where === undefined ? here() : new Place(where);
}

/**
 * rtnetlink RTM_GETROUTE: the error that a dial to `destination` ends with because it would come back to a server
 * of this program, or undefined when it may go on.
 *
 * Both must hold: the port is intercepted on in the network namespace that the dial leaves from, and the address is
 * that namespace's. By the port alone, another host's proxy could not be reached; by the listeners' addresses, a
 * wildcard listener would have to be compared with every address that the kernel delivers here, AnyIP prefixes and
 * 127.0.0.0/8 included.
 *
 * @param mark the mark that the dial will carry: policy routes decide by it
 * @param place where it leaves from
 */
export function loopRefusal(
  destination: Pick<Endpoint, 'address' | 'port'>,
  mark = 0,
  place = here(),
): CodedError | undefined {
  if (!isClaimed(ANYWHERE, destination.port)) return undefined;
  // A failure to ask counts as "here" and as "local": a refused connection does less harm than an endless loop.
  if (place.number >= 0 && !isClaimed(place.number, destination.port)) return undefined;
  if (binding().isLocalDestination(destination.address, mark, place.where) === 0) return undefined;
  return codedError(
    'ERR_INTERCEPT_LOOP',
    `${formatEndpoint(destination)} is this host, and this program intercepts on that port: the dial would come back here`,
  );
}
