// One intercepted connection: dial where it was going, find out what it speaks, pass it on, write it down.
import { METHODS } from 'node:http';
import type { Socket } from 'node:net';
import {
  connectOriginal,
  relay,
  type ConnectOriginalOptions,
  type InterceptedSocket,
  type OriginalDst,
} from 'original-dst';
import { log } from './access-log.ts';
import { forwardHttp } from './http.ts';
import { counter } from './stats.ts';

export type Direction = 'inbound' | 'outbound';

/** What a connection is, as the access log names it. */
export interface Facts {
  direction: Direction;
  /** Who connected, as this host saw it. */
  peer: string;
  /** Where it was really going. */
  destination: string;
  kind: OriginalDst['kind'];
}

/** Something that is under way and can be asked to end. */
export interface Session {
  /** Finish what has been begun, and take nothing new. */
  drain(): void;
  /** End now. */
  destroy(): void;
}

/** Everything that is under way. */
export const sessions = new Set<Session>();

const bytes = counter('sidecar_bytes_total', 'Bytes that a side has taken.', 'direction', 'to');
const closed = counter(
  'sidecar_tcp_closed_total',
  'TCP connections passed on, by how they ended.',
  'direction',
  'reason',
);
const failures = counter(
  'sidecar_upstream_failures_total',
  'Dials that failed, by error code.',
  'direction',
  'code',
);

function text(address: string | undefined, port: number | undefined): string {
  if (address === undefined) return '-'; // gone before it was accepted
  const plain = address.replace(/^::ffff:/, ''); // an IPv4 client of a dual-stack listener
  return plain.includes(':') ? `[${plain}]:${port}` : `${plain}:${port}`;
}

// CONNECT asks for a tunnel and PRI begins HTTP/2: both are passed on as they are.
const REQUEST = new RegExp(`^(${METHODS.filter((method) => method !== 'CONNECT').join('|')}) [/*]`);

/**
 * What the client says first, as soon as it has; empty when the upstream speaks first, or either side has ended.
 * A protocol in which the server speaks first (SMTP, MySQL) must not wait for its client.
 */
function firstWords(client: Socket, upstream: Socket): Promise<string> {
  return new Promise((resolve) => {
    const onClient = (): void => {
      const chunk = client.read() as Buffer | null;
      if (chunk !== null) client.unshift(chunk);
      done(chunk === null ? '' : chunk.toString('latin1', 0, 64));
    };
    const onOther = (): void => done('');
    // Not before there is an upstream: a client whose destination refuses must learn that, and not get an answer.
    const onConnect = (): void => {
      // A client that sent FIN and nothing else has ended by now, and says so no more.
      if (client.readableEnded) {
        done('');
        return;
      }
      client.on('readable', onClient).on('end', onOther);
      upstream.on('readable', onOther);
    };
    const done = (words: string): void => {
      client.off('readable', onClient).off('end', onOther).off('close', onOther);
      upstream.off('connect', onConnect).off('readable', onOther).off('close', onOther);
      resolve(words);
    };
    client.on('close', onOther);
    upstream.on('connect', onConnect).on('close', onOther);
  });
}

export async function serve(
  direction: Direction,
  client: InterceptedSocket,
  options: ConnectOriginalOptions,
): Promise<void> {
  const { originalDst: destination } = client;
  const start = performance.now();
  // Before anything else: a client that has reset the connection must not end the process.
  client.on('error', () => {});
  const facts: Facts = {
    direction,
    peer: text(client.remoteAddress, client.remotePort),
    destination: destination.kind === 'unknown' ? '-' : text(destination.address, destination.port),
    kind: destination.kind,
  };
  const upstream = connectOriginal(client, { ...options, allowHalfOpen: true });
  upstream.on('error', (error: NodeJS.ErrnoException) => {
    failures.inc({ direction, code: error.code ?? error.name });
    log({ ...facts, failed: error.message });
  });
  const starting: Session = {
    drain: () => {},
    destroy: () => void client.destroy(),
  };
  sessions.add(starting);
  const words = await firstWords(client, upstream);
  sessions.delete(starting);
  if (client.destroyed || upstream.destroyed) {
    // The client learns of a dial that failed as it would have without a proxy.
    if (!client.destroyed) client.resetAndDestroy();
    upstream.destroy();
    return;
  }
  if (REQUEST.test(words)) {
    forwardHttp(facts, client, upstream);
    return;
  }

  const passing = relay(client, upstream, { engine: 'any' });
  const session: Session = { drain: () => {}, destroy: () => void passing.destroy() };
  sessions.add(session);
  passing.on('close', (outcome) => {
    sessions.delete(session);
    const sent = passing.bytesToUpstream;
    const received = passing.bytesToClient;
    bytes.inc({ direction, to: 'upstream' }, sent);
    bytes.inc({ direction, to: 'client' }, received);
    closed.inc({ direction, reason: outcome.reason });
    log({
      ...facts,
      protocol: 'tcp',
      sent,
      received,
      ms: Math.round(performance.now() - start),
      end: outcome.reason,
    });
  });
}
