// How a relay server's verdict is dialled: by the thread, or by Node's sockets where the way leads by another proxy or
// begins with a PROXY protocol header.
import { randomBytes } from 'node:crypto';
import { Socket, type LookupFunction } from 'node:net';
import { familyOf, type Endpoint } from '../address.ts';
import { dial as dialSocket, type DialOptions } from '../dial/connect.ts';
import { writeProxyHeader } from '../dial/proxy-header.ts';
import { dialVia } from '../dial/via.ts';
import { codedError, type CodedError } from '../errors.ts';
import { Namespace } from '../namespace/namespace.ts';
import type { Path } from '../policy/own-dials.ts';
import type { Place } from '../recover/place.ts';
import type { ReadDecision } from './decision.ts';
import { foreignRuntime } from './handover.ts';
import type { Mover, RelayOutcome } from './outcome.ts';
import { relay } from './relay.ts';
import type { RelayServerOptions } from './server-options.ts';
import { Candidates, isNamed, type NamedTarget, ResolvedTarget, whereTo } from './target.ts';
import type { Question, Undecided } from './undecided.ts';

/** RFC 8305, 5: Connection Attempt Delay, in milliseconds. */
const ATTEMPT_DELAY = 250;

/** Dials and relays. Returns what moves the bytes, or the negative errno that prevented it. */
export type Dial = (onClose: (outcome: RelayOutcome) => void) => Mover | number;

/** A relay of two sockets, as what moves the bytes of the server's own relay object. */
function moverOf(
  client: Socket,
  upstream: Socket,
  options: RelayServerOptions,
  onClose: (outcome: RelayOutcome) => void,
): Mover {
  const { connectTimeout, deadPeerTimeout, halfCloseTimeout, idleTimeout } = options;
  const timeouts = Object.entries({ connectTimeout, deadPeerTimeout, halfCloseTimeout, idleTimeout });
  const joined = relay(
    client,
    upstream,
    Object.fromEntries(timeouts.filter(([, value]) => value !== undefined)),
  );
  joined.once('close', onClose);
  const began = performance.now();
  let connectMs: number | undefined;
  upstream.once('connect', () => (connectMs = performance.now() - began));
  return {
    bytesToUpstream: () => joined.bytesToUpstream,
    bytesToClient: () => joined.bytesToClient,
    destroy: () => void joined.destroy(),
    connectMs: () => connectMs,
    keepAlive: (on) => void (on ? joined.ref() : joined.unref()),
  };
}

/** Where the verdict leads, or why not. */
function routeTo(
  one: Undecided,
  { to, via }: ReadDecision,
  options: RelayServerOptions,
  place: Place,
): Endpoint | NamedTarget | Candidates | CodedError {
  const { egress, preserveSource = false } = options;
  if (via !== undefined && preserveSource !== false) {
    return codedError(
      'ERR_INVALID_ARG_VALUE',
      'With "preserveSource" the proxy of "verdict.via" would be dialled from the client’s address',
      {
        base: TypeError,
      },
    );
  }
  if (to instanceof ResolvedTarget || !isNamed(to)) return whereTo(one.question, to, options, place);
  if (egress === undefined) return to;
  return codedError(
    'ERR_EGRESS_DENIED',
    `The egress policy judges addresses, and ${to.name} is for the proxy to resolve`,
  );
}

/** The addresses of a name in Node, one after the other: the first connection that comes about. */
function dialByTurns({ name, addresses, port }: Candidates, how: DialOptions, path: Path): Socket {
  const answers = addresses.map((address) => ({ address, family: familyOf(address) === 'IPv4' ? 4 : 6 }));
  // A tick later, as dns.lookup: what is to be set on each attempt's socket is not known to Node's socket before.
  const lookup: LookupFunction = (_, __, callback) => process.nextTick(callback, null, answers);
  const turns = { autoSelectFamily: true, autoSelectFamilyAttemptTimeout: ATTEMPT_DELAY };
  return dialSocket({ ...how, ...turns, address: name, port }, path, lookup);
}

function upstreamFor(
  one: Undecided,
  target: Endpoint | NamedTarget | Candidates,
  { via }: ReadDecision,
  options: RelayServerOptions,
  place: Place,
): Socket {
  const { client, path } = one.question;
  const { mark, preserveSource = false, portFallback } = options;
  // A descriptor of its own: it is opened in there later, when the server's may be closed.
  const namespace = place.where < 0 ? undefined : Namespace.of(`/proc/self/fd/${place.where}`);
  const how = {
    allowHalfOpen: true,
    ...(mark === undefined ? {} : { mark }),
    ...(namespace === undefined ? {} : { namespace }),
  };
  const dial = (): Socket => {
    if (target instanceof Candidates) return dialByTurns(target, how, path);
    if (via !== undefined) return dialVia(via, target as Endpoint | Required<NamedTarget>, how, path);
    const { address, port } = target as Endpoint;
    if (preserveSource === false) return dialSocket({ ...how, address, port }, path);
    const source = { address: client.address, port: preserveSource === 'port' ? client.port : 0 };
    const fallback = portFallback === undefined ? {} : { portFallback };
    return dialSocket({ ...how, ...fallback, transparent: true, source, address, port }, path);
  };
  return dial().once('close', () => namespace?.close());
}

/** How to do what the verdict says, or why it is not done. */
export function planDial(
  one: Undecided,
  decision: ReadDecision,
  options: RelayServerOptions,
  place: Place,
): Dial | CodedError {
  const { via, proxyProtocol } = decision;
  const target = routeTo(one, decision, options, place);
  if (target instanceof Error) return target;
  if (via === undefined && proxyProtocol === undefined && !(target instanceof Candidates))
    return (onClose) => one.dial(target as Endpoint, onClose);
  const runtime = foreignRuntime();
  if (runtime) return runtime;
  return (onClose) => {
    const upstream = upstreamFor(one, target, decision, options, place);
    // Node keeps it until the connection is there.
    if (proxyProtocol !== undefined) upstream.write(headerOf(one.question, decision, proxyProtocol));
    const client = new Socket({ fd: one.take(), allowHalfOpen: true, readable: true, writable: true });
    return moverOf(client, upstream, options, onClose);
  };
}

/** What the next hop is told of the connection. */
export function headerOf(
  { client, destination, first }: Question,
  { to }: Pick<ReadDecision, 'to'>,
  version: 1 | 2,
): Buffer {
  const authority = isNamed(to) ? to.name : first?.name;
  return writeProxyHeader(version, {
    client,
    ...(destination.kind === 'unknown' ? {} : { destination }),
    ...(authority === undefined ? {} : { authority }),
    uniqueId: randomBytes(16),
  });
}
