// A dial by a descriptor that the caller has opened.
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import { canonicalAddress, dialledAddress, familyOf, formatEndpoint, type Endpoint } from '../address.ts';
import { checkFd } from '../arguments.ts';
import { binding } from '../binding.ts';
import { codedError, systemError, type CodedError } from '../errors.ts';
import { aroundConnect } from '../node/socket-fd.ts';
import { refuseOtherSockets } from '../raw-fd.ts';
import { endpointAt, peerStatus, Role } from '../recover/kernel-answer.ts';
import { noDescriptors, OF_THE_SOCKET, type Dialled } from './attempt.ts';
import type { DialOptions } from './connect.ts';

const { EOPNOTSUPP } = constants.errno;

function notFit(message: string): CodedError {
  return codedError('ERR_INVALID_ARG_VALUE', message, { base: TypeError });
}

/** Throws unless `options.fd` is a TCP socket, and no option is there that only a new socket can have. Its family. */
function familyOfAdopted(options: DialOptions & { fd: number }): Endpoint['family'] {
  const { fd } = options;
  checkFd(fd);
  const other = OF_THE_SOCKET.find((name) => options[name] !== undefined);
  if (other !== undefined) throw notFit(`Give either "options.fd" or "options.${other}"`);
  return refuseOtherSockets('connect', fd, 'a TCP socket');
}

/** Has the caller opened the socket? */
export function hasFd<T extends DialOptions>(options: T): options is T & { fd: number } {
  return options.fd !== undefined;
}

/** Throws if there is a descriptor to adopt that cannot be: before a refusal closes it. */
export function checkAdoption(options: DialOptions): void {
  if (hasFd(options)) familyOfAdopted(options);
}

/** Closes the descriptor of a dial that is not made after all. */
export function closeAdopted({ fd }: DialOptions): void {
  if (fd !== undefined) binding().closeFd(fd);
}

/** A descriptor to dial `to` with: open until {@link AdoptedFd.prepare} or the end of the socket that it is meant for. */
export class AdoptedFd {
  readonly #fd: number;
  readonly #connected: boolean;

  /** Throws unless it can be, and has done nothing then. */
  constructor(options: DialOptions & { fd: number }, to: Pick<Endpoint, 'address' | 'port'>) {
    const family = familyOfAdopted(options);
    const { fd } = options;
    const address = canonicalAddress(to.address);
    // A name may have several addresses, of both families, each of which takes a socket of its own.
    if (address === undefined)
      throw notFit('With "options.fd" the address must be a literal IP address, not a name');
    this.#fd = fd;
    this.#connected = binding().readFacts(fd) === 0 && peerStatus() === 0;
    const peer = this.#connected ? endpointAt(Role.peer) : undefined;
    if (peer !== undefined && (peer.address !== dialledAddress(address) || peer.port !== to.port)) {
      const meant = formatEndpoint({ address, port: to.port });
      throw notFit(`fd ${fd} is connected to ${formatEndpoint(peer)} and not to ${meant}`);
    }
    if (peer === undefined && family !== familyOf(address))
      throw notFit(`An ${familyOf(address)} address cannot be dialled by an ${family} socket: ${address}`);
  }

  close(): void {
    binding().closeFd(this.#fd);
  }

  /** Lets `socket`, which net.connect() has just returned, connect by it. */
  prepare(socket: Socket, dialled: Dialled): void {
    // Until it connects, the descriptor is not the socket's.
    const over = (): void => this.close();
    socket.once('close', over);
    aroundConnect(socket, ({ to, adopt, connect, complete }) => {
      socket.off('close', over);
      // Close-on-exec, whatever the caller's is.
      const own = binding().duplicateFd(this.#fd);
      this.close();
      /* c8 ignore next 4 -- no descriptor is left */
      if (own < 0) {
        socket.destroy(systemError(own, { syscall: 'fcntl' }));
        return own;
      }
      if (!adopt(own)) {
        binding().closeFd(own);
        socket.destroy(noDescriptors());
        return -EOPNOTSUPP;
      }
      const status = this.#connected ? 0 : connect();
      if (status === 0) dialled(own, to);
      // Node expects the answer later than the call.
      if (this.#connected) process.nextTick(complete);
      return status;
    });
  }
}
