// The descriptor of a dial: opened with its source, mark and interface, and put under Node's socket as it connects.
import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { constants } from 'node:os';
import type { Endpoint } from '../address.ts';
import { binding, bindingLoaded } from '../binding.ts';
import type { CodedError, SystemError } from '../errors.ts';
import { foreignRuntimeName, unsupportedRuntime } from '../node/runtime.ts';
import { aroundConnect } from '../node/socket-fd.ts';
import type { DialOptions } from './connect.ts';
import { dialError } from './dial-error.ts';

const { EADDRINUSE, EADDRNOTAVAIL, EOPNOTSUPP } = constants.errno;

/** Told of a connection after connect(2) has been called for it. */
export type Dialled = (fd: number | undefined, address: string) => void;

/** What is settled when the socket is opened: whoever opens it sees to it. */
export const OF_THE_SOCKET = [
  'source',
  'portFallback',
  'transparent',
  'freebind',
  'mark',
  'interface',
  'namespace',
] as const satisfies readonly (keyof DialOptions)[];

/** Does the socket need anything that net.connect cannot do? */
export function isSpecial(options: DialOptions): boolean {
  const { source, transparent, freebind, mark, interface: device, namespace } = options;
  return (
    source !== undefined ||
    mark !== undefined ||
    device !== undefined ||
    namespace !== undefined ||
    transparent === true ||
    freebind === true
  );
}

/** The error of a runtime whose sockets cannot be given a descriptor. */
export function noDescriptors(): CodedError {
  return unsupportedRuntime(
    'This runtime makes the sockets of connections itself, so that neither source nor mark can be guaranteed',
    'use Node.js',
  );
}

/** The socket for one dial, or the error. `over`: put it in the place of this fd. */
function openSocket(
  family: Endpoint['family'],
  options: DialOptions,
  port: number,
  over = -1,
): number | SystemError {
  const { source, transparent = false, freebind = false, mark = null, interface: device = null } = options;
  const { namespace } = options;
  const opened = binding().openDialSocket(
    family === 'IPv4' ? 4 : 6,
    source?.address ?? null,
    port,
    transparent,
    freebind,
    mark,
    device,
    over,
    namespace?.fd ?? -1,
  );
  if (typeof opened === 'number') return opened;
  const [errno, step] = opened;
  return dialError(errno, step, source === undefined ? {} : { source: { address: source.address, port } });
}

/**
 * What the system refuses whatever the destination: the error, or undefined. To be asked ahead of several attempts:
 * as the failure of each of them the reason would be one of many in an AggregateError.
 */
export function optionsRefusal(family: Endpoint['family'], options: DialOptions): SystemError | undefined {
  const opened = openSocket(family, options, 0);
  // A family that this host does not have is left to the attempt: the next address may be of the other.
  if (typeof opened === 'object') return opened.syscall === 'socket' ? undefined : opened;
  closeSync(opened);
  return undefined;
}

/**
 * Lets `socket`, which net.connect() has just returned, connect by descriptors with everything set. Each is
 * opened no sooner than it connects: until then Node's socket has no local address, and nothing is left open when the
 * socket is destroyed.
 */
export function prepareAttempts(socket: Socket, options: DialOptions, dialled: Dialled): void {
  const { portFallback = false, source } = options;
  const port = source?.port ?? 0;
  const fail = (error: Error, errno: number): number => {
    // One of several addresses has failed, as if connect(2) had refused it. Node throws when it is destroyed in there.
    if (socket.autoSelectFamilyAttemptedAddresses === undefined) socket.destroy(error);
    return errno;
  };
  aroundConnect(socket, ({ family, to, adopt, connect }) => {
    let opened = openSocket(family, options, port);
    if (portFallback && typeof opened === 'object' && opened.errno === -EADDRINUSE)
      opened = openSocket(family, options, 0);
    if (typeof opened === 'object') return fail(opened, opened.errno);
    const fd = opened;
    if (!adopt(fd)) {
      closeSync(fd);
      return fail(noDescriptors(), -EOPNOTSUPP);
    }
    let status = connect();
    // bind(2) passes when another socket has the port for another destination (SO_REUSEADDR); connect(2) is where a
    // taken tuple shows, and by then Node's stream owns the fd: a fresh socket goes under the same number.
    const taken = portFallback && port !== 0 && status === -EADDRNOTAVAIL;
    if (taken && openSocket(family, options, 0, fd) === fd) status = connect();
    if (status === 0) dialled(fd, to);
    return status;
  });
}

/** Tells of each connection that Node makes for a socket that net.connect() has just returned for a host name. */
export function noteAttempts(socket: Socket, dialled: Dialled): void {
  // Elsewhere the runtime makes them out of sight, and without the addon nobody has asked.
  if (!bindingLoaded() || foreignRuntimeName() !== undefined) return;
  aroundConnect(socket, ({ to, connect, fd }) => {
    const status = connect();
    if (status === 0) dialled(fd(), to);
    return status;
  });
}
