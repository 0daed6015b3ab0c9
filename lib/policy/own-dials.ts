// A proxy that dials itself: accepted connections that are the other end of a dial of this program's.
import type { Server, Socket } from 'node:net';
import { formatEndpoint, type Endpoint } from '../address.ts';
import { binding, bindingLoaded } from '../binding.ts';
import { codedError, type CodedError } from '../errors.ts';
import { acceptingServer } from '../node/socket-fd.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { program } from './program.ts';

/**
 * The listeners of this program that a connection has come through, by their ports, sixteen bits each (class
 * RecentDials in src/host/recent_dials.h). 0: the program dialled, and nobody said for which client.
 *
 * A connection that passes two different listeners is no loop: a sidecar's program that calls its own pod goes out by
 * the outbound listener and comes in by the inbound one.
 */
export type Path = number;

/** What the addon found out about an accepted connection: 0 comes from elsewhere, above 0 the path of its dial. */
export type Origin = number;
const LOOP = -1;
/** From a dial that nobody said of which client it is for. */
const OWN_DIAL = -2;

const ports = new WeakMap<Server, number>();
/** Of connections that have come through another listener before, and of those that no net.Server accepted. */
const paths = new WeakMap<Socket, Path>();

/** On which port the server intercepts. */
export function setInterceptedPort(server: Server, port: number): void {
  ports.set(server, port);
}

/** What the dial for this client will have come through. */
export function setPath(client: Socket, path: Path): void {
  paths.set(client, path);
}

export function pathOf(accepted: Socket): Path {
  const path = paths.get(accepted);
  if (path !== undefined) return path;
  const server = acceptingServer(accepted);
  return (server && ports.get(server)) ?? 0;
}

/** Takes note of a connection that is being made: connect(2) has been called. */
export function noteDial(
  fd: number | undefined,
  to: Pick<Endpoint, 'address' | 'port'>,
  path: Path,
  transparent: boolean,
): void {
  // Without the addon there is no server here that could be dialled.
  if (fd !== undefined && bindingLoaded())
    binding().noteDial(program(), fd, to.address, to.port, path, transparent);
}

/** The error with which an accepted connection is refused because this program has dialled it, or undefined. */
export function ownDialRefusal(
  origin: Origin,
  destination: OriginalDst,
  listenerPort: number,
): CodedError | undefined {
  const { kind } = destination;
  // A program may well dial its own server, as long as no rules are at work.
  const captured = kind !== 'direct' && kind !== 'unknown';
  if (origin !== LOOP && (origin !== OWN_DIAL || !captured)) return undefined;
  const where = destination.kind === 'unknown' ? 'its destination' : formatEndpoint(destination);
  return codedError(
    'ERR_INTERCEPT_LOOP',
    `This program has dialled ${where} and got through to itself, at port ${listenerPort}`,
    {
      hint:
        'the rules must leave the proxy’s own connections alone: give them a mark (option `mark`) or run the proxy as ' +
        'a user of its own, and exempt that; `original-dst rules` prints such rules',
    },
  );
}

let warned = false;

/** `process.emitWarning`, once for each thread: a loop has a cause that lasts, and clients that come again. */
export function warnOfLoop(error: CodedError): void {
  if (warned) return;
  warned = true;
  process.emitWarning(error.message, { code: error.code });
}
