import { once } from 'node:events';
import { pipeline } from 'node:stream/promises';
import { formatEndpoint, unmap } from '../address.ts';
import { connectOriginal } from '../connect-original.ts';
import { createServer, type InterceptedSocket } from '../intercept.ts';
import type { OriginalDst } from '../original-dst.ts';
import { REDIRECT_PORT, TPROXY_PORT } from './stage.ts';

/** The end of any connection that does not end by itself: the demo always comes to a result. */
const LONGEST_MS = 20_000;

/** One connection, as the proxy saw it. */
export interface Visit {
  /** The accepted socket's local address. */
  acceptedAt: string;
  originalDst: OriginalDst;
  /** Bytes from the client. */
  up: number;
  /** Bytes to the client. */
  down: number;
}

/** `address:port` in canonical form; Node writes IPv4 on a dual-stack listener as `::ffff:…`. */
export function canonical(address: string, port: number): string {
  return formatEndpoint({ address: unmap(address), port });
}

/** On to the true destination, or RST: connectOriginal refuses to call this program itself, and never guesses. */
function forward(client: InterceptedSocket): void {
  const preserveSource = client.originalDst.kind === 'tproxy';
  const upstream = connectOriginal(client, { preserveSource, allowHalfOpen: true });
  const signal = AbortSignal.timeout(LONGEST_MS);
  void Promise.allSettled([pipeline(client, upstream, { signal }), pipeline(upstream, client, { signal })]);
}

async function observe(client: InterceptedSocket): Promise<Visit> {
  const acceptedAt = canonical(client.localAddress!, client.localPort!);
  await new Promise((resolve) => client.once('close', resolve));
  const { originalDst, bytesRead: up, bytesWritten: down } = client;
  return { acceptedAt, originalDst, up, down };
}

/**
 * The demo's transparent proxy: one listener for REDIRECT, one for TPROXY, both for IPv4 and IPv6.
 * Returns its log: client address → what became of the connection.
 */
export async function startProxy(): Promise<Map<string, Promise<Visit>>> {
  const visits = new Map<string, Promise<Visit>>();
  const handle = (client: InterceptedSocket): void => {
    visits.set(canonical(client.remoteAddress!, client.remotePort!), observe(client));
    forward(client);
  };
  const servers = [
    createServer({ allowHalfOpen: true }, handle).listen(REDIRECT_PORT),
    createServer({ allowHalfOpen: true, transparent: true }, handle).listen(TPROXY_PORT),
  ];
  await Promise.all(servers.map((server) => once(server, 'listening')));
  return visits;
}
