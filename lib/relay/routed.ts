// How a relay server's verdict is dialled by the thread: straight, or another way.
import type { Endpoint } from '../address.ts';
import { type ProxyServer, readDestination, type Target } from '../dial/proxy-server.ts';
import { codedError, systemError, type CodedError } from '../errors.ts';
import type { Place } from '../recover/place.ts';
import { ResolvedVia } from './by-name.ts';
import type { ReadDecision } from './decision.ts';
import type { NativeMover, OnClose } from './native-mover.ts';
import { type HeaderPlan, type ResolvedProxy, Route } from './route.ts';
import type { RelayServerOptions } from './server-options.ts';
import { type Candidate, isNamed, type ReadTarget, ResolvedTarget, whereTo } from './target.ts';
import type { RelayLimits } from './timeouts.ts';
import type { Question, Undecided } from './undecided.ts';

/** Dials and relays. Returns what moves the bytes, or the negative errno that prevented it. */
export type Dial = (onClose: OnClose) => NativeMover | number;

/** What becomes of a connection that is relayed. */
export interface DialPlan {
  dial: Dial;
  /** In the order in which they are tried. */
  ways: readonly (Candidate | Target)[];
  proxy: ProxyServer | undefined;
  /** Another way than straight to the destination. */
  route: Route | undefined;
}

/** All that a verdict may be dialled by. */
export interface DialRules {
  options: RelayServerOptions;
  limits: RelayLimits;
  place: Place;
}

interface Ways {
  ways: readonly (Candidate | Target)[];
  refusals: readonly CodedError[];
}

const NONE: readonly CodedError[] = [];

/** In the order of the verdict. */
function targetsOf({ to }: Pick<ReadDecision, 'to'>): readonly (ReadTarget | undefined)[] {
  return Array.isArray(to) ? (to as readonly ReadTarget[]) : [to as ReadTarget | undefined];
}

/** A name that the proxy is to resolve: nobody here can judge its addresses. */
function unjudged(to: ReadTarget, { egress }: RelayServerOptions): Target | CodedError {
  const { name, port } = readDestination(to);
  if (egress === undefined) return { name: name!, port };
  return codedError(
    'ERR_EGRESS_DENIED',
    `The egress policy judges addresses, and ${name} is for the proxy to resolve`,
  );
}

/** Where the verdict leads, each place judged by itself, or why nowhere. */
function waysOf(
  question: Question,
  decision: ReadDecision,
  { options, place }: DialRules,
): Ways | CodedError {
  // Most verdicts: no lists are made for one place.
  if (decision.to === undefined) {
    const found = whereTo(question, undefined, options, place);
    return found instanceof Error ? found : { ways: found, refusals: NONE };
  }
  const ways: (Candidate | Target)[] = [];
  const refusals: CodedError[] = [];
  for (const to of targetsOf(decision)) {
    const byProxy = isNamed(to) && !(to instanceof ResolvedTarget);
    const found = byProxy ? unjudged(to, options) : whereTo(question, to, options, place);
    if (found instanceof Error) refusals.push(found);
    else if (Array.isArray(found)) ways.push(...(found as Candidate[]));
    else ways.push(found as Target);
  }
  return ways.length > 0 ? { ways, refusals } : refusals[0]!;
}

/** By which addresses the proxy is dialled, or why by none. */
function proxyOf(
  { via }: ReadDecision,
  { preserveSource = false }: RelayServerOptions,
): ResolvedProxy | CodedError | undefined {
  if (via === undefined) return undefined;
  if (preserveSource !== false) {
    return codedError(
      'ERR_INVALID_ARG_VALUE',
      'With "preserveSource" the proxy of "verdict.via" would be dialled from the client’s address',
      { base: TypeError },
    );
  }
  if (!(via instanceof ResolvedVia)) return { server: via, addresses: [via.address] };
  return via.found instanceof Error ? via.found : { server: via.server, addresses: via.found };
}

/** What the next hop is told of the connection. */
export function headerOf(
  { destination, first }: Pick<Question, 'destination' | 'first'>,
  decision: Pick<ReadDecision, 'to' | 'proxyProtocol'>,
): HeaderPlan | undefined {
  const { proxyProtocol: version } = decision;
  if (version === undefined) return undefined;
  const [to] = targetsOf(decision);
  return {
    version,
    destination: destination.kind === 'unknown' ? undefined : destination,
    authority: to !== undefined && isNamed(to) ? to.name : first?.name,
  };
}

/** How to do what the verdict says, or why it is not done. */
export function planDial(one: Undecided, decision: ReadDecision, rules: DialRules): DialPlan | CodedError {
  const { to, via, proxyProtocol, ttl } = decision;
  const proxy = proxyOf(decision, rules.options);
  if (proxy instanceof Error) return proxy;
  const found = waysOf(one.question, decision, rules);
  if (found instanceof Error) return found;
  const { ways } = found;
  const [way] = ways;
  // A route that nobody takes again is worth nothing where one dial does.
  const once = ways.length === 1 && found.refusals.length === 0 && ttl === 0;
  if (via === undefined && proxyProtocol === undefined && (to === undefined || once))
    return {
      dial: (onClose) => one.dial(way as Endpoint, onClose),
      ways,
      proxy: undefined,
      route: undefined,
    };
  const route = Route.of({
    ...found,
    proxy,
    header: headerOf(one.question, decision),
    timeout: rules.limits.connect,
  });
  if (typeof route === 'number') return systemError(route, { syscall: 'connect' });
  return { dial: (onClose) => one.dialRoute(route, onClose), ways, proxy: proxy?.server, route };
}
