// connectOriginal(): dials where an intercepted connection was going.
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { checkAdoption, closeAdopted } from './adopted-fd.ts';
import { checkDialOptions, dial, type DialOptions, type DialSource, told } from './connect.ts';
import { checkProxyServer, type ProxyServer } from './proxy-server.ts';
import { dialVia } from './via.ts';
import { outOfRange } from '../arguments.ts';
import { codedError, systemError, type CodedError } from '../errors.ts';
import { dialPlace } from '../policy/loop-guard.ts';
import { pathOf } from '../policy/own-dials.ts';
import { countRefusal, destinationRefusal } from '../policy/refusal.ts';
import { clientOf } from '../recover/proxy-header.ts';
import { recoverOriginalDst, type KnownDst } from '../recover/original-dst.ts';
import { reset } from '../node/reset.ts';
import { acceptedUnder, acceptingServer } from '../node/socket-fd.ts';

const { ENOTCONN } = constants.errno;

export interface ConnectOriginalOptions extends DialOptions {
  /**
   * Dial from the client's own address, with IP_TRANSPARENT: `true` lets the kernel choose the port, `'port'` keeps
   * the client's (with `portFallback` only as long as it is free). The route back must lead through this host.
   * Default false.
   */
  preserveSource?: boolean | 'port';
  /** By way of another proxy, as {@link connectVia}; the egress policy judges the destination all the same. */
  via?: ProxyServer;
}

/** What a server of intercept() has; any other has no such property. */
interface CountsRefusals {
  readonly interceptStats?: { readonly refused: Record<string, number> };
}

function failed(error: Error): Socket {
  return new Socket().destroy(error);
}

/** Counts the refusal at the server that accepted the client, sends the client RST, and gives a failed upstream. */
function refuse(client: Socket, error: CodedError): Socket {
  const accepted = acceptedUnder(client);
  const server = acceptingServer(accepted) as CountsRefusals | undefined;
  if (server?.interceptStats) countRefusal(server.interceptStats.refused, error);
  reset(accepted);
  return failed(error);
}

function clientSource(client: Socket, keepPort: boolean): DialSource | undefined {
  const from = clientOf(client);
  return from && { address: from.address, port: keepPort ? from.port : 0 };
}

export function checkPreserveSource(value: unknown): void {
  if (value !== undefined && typeof value !== 'boolean' && value !== 'port')
    throw outOfRange('options.preserveSource', "a boolean or 'port'", value);
}

/**
 * {@link connect} to where an intercepted connection was going, on behalf of its client.
 *
 * Refused before a packet is sent, with RST to the client, a count in the server's `interceptStats.refused` and an
 * `'error'` on the returned socket: `ERR_INTERCEPT_LOOP` (the destination is this host, at a port that this program
 * intercepts on in any of its threads and cluster workers), `ERR_EGRESS_DENIED`, `ERR_UNKNOWN_DESTINATION` (the
 * kernel's reason is the `cause`). A dial that the network refuses leaves the client to the caller.
 *
 * @throws as {@link connect}
 * Capability: CAP_NET_ADMIN or CAP_NET_RAW for `preserveSource`, `transparent`, `mark`.
 */
export function connectOriginal(socket: Socket, options: ConnectOriginalOptions = {}): Socket {
  checkDialOptions(options);
  checkAdoption(options);
  checkPreserveSource(options.preserveSource);
  const { preserveSource = false, via, ...how } = options;
  if (via !== undefined) checkProxyServer(via, 'options.via');
  if (preserveSource !== false && via !== undefined) {
    throw codedError('ERR_INVALID_ARG_VALUE', 'Give either "options.via" or "options.preserveSource"', {
      base: TypeError,
    });
  }
  for (const name of ['source', 'fd'] as const) {
    if (preserveSource === false || how[name] === undefined) continue;
    throw codedError('ERR_INVALID_ARG_VALUE', `Give either "options.${name}" or "options.preserveSource"`, {
      base: TypeError,
    });
  }
  const destination = recoverOriginalDst(socket);
  const refusal = destinationRefusal(destination, how.egress, how.mark, dialPlace(how));
  if (refusal) {
    closeAdopted(how);
    return refuse(socket, refusal);
  }

  const { address, port } = destination as KnownDst;
  const path = pathOf(acceptedUnder(socket));
  if (via !== undefined) return dialVia(via, { address, port }, how, path);
  if (preserveSource === false) return told(dial({ ...how, address, port }, path), { address, port });
  const source = clientSource(socket, preserveSource === 'port');
  if (!source) return failed(systemError(-ENOTCONN, { syscall: 'getpeername' }));
  return told(dial({ transparent: true, ...how, source, address, port }, path), { address, port });
}
