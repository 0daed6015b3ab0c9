// Destinations that this program intercepts itself: refused before a packet is sent.
import { formatEndpoint, type Endpoint } from '../address.ts';
import { binding } from '../binding.ts';
import { codedError, type CodedError } from '../errors.ts';
import { program } from './program.ts';

/** How many servers of this thread intercept on a port. */
const own = new Map<number, number>();

/**
 * Lets every thread and cluster worker of this program know that it intercepts on `port`.
 * Where the kernel refuses the claim (no /proc) this thread knows of its own servers all the same.
 */
export function claimPort(port: number): void {
  own.set(port, (own.get(port) ?? 0) + 1);
  binding().claimPort(program(), port);
}

/** Takes one {@link claimPort} back. */
export function releasePort(port: number): void {
  const left = own.get(port)! - 1;
  if (left > 0) {
    own.set(port, left);
    return;
  }
  own.delete(port);
  binding().releasePort(program(), port);
}

/** Does this program intercept on `port`, in whatever thread or cluster worker? */
function isClaimed(port: number): boolean {
  return own.has(port) || binding().portClaimedElsewhere(program(), port) === 1;
}

/**
 * rtnetlink RTM_GETROUTE: the error that a dial to `destination` ends with because it would come back to a server
 * of this program, or undefined when it may go on.
 *
 * Both must hold: the port is intercepted on, and the address is this host's. By the port alone, another host's
 * proxy could not be reached; by the listeners' addresses, a wildcard listener would have to be compared with
 * every address that the kernel delivers here, AnyIP prefixes and 127.0.0.0/8 included.
 *
 * @param mark the mark that the dial will carry: policy routes decide by it
 */
export function loopRefusal(
  destination: Pick<Endpoint, 'address' | 'port'>,
  mark = 0,
): CodedError | undefined {
  if (!isClaimed(destination.port)) return undefined;
  // A failure to ask counts as "local": a refused connection does less harm than an endless loop.
  if (binding().isLocalDestination(destination.address, mark) === 0) return undefined;
  return codedError(
    'ERR_INTERCEPT_LOOP',
    `${formatEndpoint(destination)} is this host, and this program intercepts on that port: the dial would come back here`,
  );
}
