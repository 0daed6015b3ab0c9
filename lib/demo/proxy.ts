// The proxy of the demo.
import { once } from 'node:events';
import { canonicalAddress, formatEndpoint } from '../address.ts';
import { connectOriginal } from '../dial/connect-original.ts';
import { createServer, type InterceptedSocket } from '../accept/intercept.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { relay } from '../relay/relay.ts';
import { REDIRECT_PORT, TPROXY_PORT } from './stage.ts';

/** How long a connection may stand still: the demo always comes to a result. */
const IDLE_MS = 10_000;

/** One connection, as the proxy saw it. */
export interface Visit {
  /** The accepted socket's local address. */
  acceptedAt: string;
  originalDst: OriginalDst;
  /** Bytes that went from the client to the server. */
  up: number;
  /** Bytes that went from the server to the client. */
  down: number;
}

/** `address:port` in canonical form; Node writes IPv4 on a dual-stack listener as `::ffff:…`. */
export function canonical(address: string, port: number): string {
  return formatEndpoint({ address: canonicalAddress(address)!, port });
}

/** On to the true destination, or RST: connectOriginal refuses to call this program itself, and never guesses. */
async function forward(client: InterceptedSocket): Promise<Visit> {
  const { originalDst, localAddress, localPort } = client;
  const preserveSource = originalDst.kind === 'tproxy';
  const upstream = connectOriginal(client, { preserveSource, allowHalfOpen: true });
  upstream.on('error', () => {}); // the relay ends with it
  const pair = relay(client, upstream, { idleTimeout: IDLE_MS });
  await once(pair, 'close');
  return {
    acceptedAt: canonical(localAddress!, localPort!),
    originalDst,
    up: pair.bytesToUpstream,
    down: pair.bytesToClient,
  };
}

/**
 * The demo's transparent proxy: one listener for REDIRECT, one for TPROXY, both for IPv4 and IPv6.
 * Returns its log: client address → what became of the connection.
 */
export async function startProxy(): Promise<Map<string, Promise<Visit>>> {
  const visits = new Map<string, Promise<Visit>>();
  const handle = (client: InterceptedSocket): void => {
    visits.set(canonical(client.remoteAddress!, client.remotePort!), forward(client));
  };
  const servers = [
    createServer({ allowHalfOpen: true }, handle).listen(REDIRECT_PORT),
    createServer({ allowHalfOpen: true, transparent: true }, handle).listen(TPROXY_PORT),
  ];
  await Promise.all(servers.map((server) => once(server, 'listening')));
  return visits;
}
