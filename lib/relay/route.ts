// Another way to an upstream than one connect(2), as the addon's thread takes it: by turns, by way of another proxy, or
// with a PROXY protocol header ahead.
import type { Endpoint } from '../address.ts';
import { binding, type NativeRoute } from '../binding.ts';
import { dialError } from '../dial/dial-error.ts';
import { handshakeError } from '../dial/handshake-error.ts';
import { httpRequest } from '../dial/http-connect.ts';
import type { ProxyServer, Target } from '../dial/proxy-server.ts';
import { socksGreeting, socksPassword, socksRequest } from '../dial/socks5.ts';
import type { CodedError, SystemError } from '../errors.ts';
import { type Candidate, inTurns } from './target.ts';

/** enum ProxyProtocol of src/relay/handshake.h. */
const PROTOCOLS = { none: 0, socks5: 1, http: 2 } as const;
/** enum DialStep of src/socket/dial.h. */
const HANDSHAKE = 11;
/** struct HopFailure of src/relay/route.h. */
const NUMBERS_OF_FAILURE = 3;
/** One after the other, each of these may take as long as `connectTimeout`. */
const MOST_HOPS = 64;
const NOTHING = new Uint8Array();

/** A proxy, and the addresses that it is dialled at. */
export interface ResolvedProxy {
  server: ProxyServer;
  addresses: readonly string[];
}

/** What the next hop is told of the client. */
export interface HeaderPlan {
  version: 1 | 2;
  /** Where the client has dialled; undefined where it is not known. */
  destination: Endpoint | undefined;
  /** The name that it wants. */
  authority: string | undefined;
}

export interface RoutePlan {
  /** Where to, until one has connected; with a proxy these are for the proxy to connect to. */
  ways: readonly (Candidate | Target)[];
  /** Why others were not taken. */
  refusals: readonly CodedError[];
  proxy: ResolvedProxy | undefined;
  header: HeaderPlan | undefined;
  /** How long a proxy may take, in milliseconds. */
  timeout: number;
}

function messagesFor(proxy: ProxyServer, targets: readonly Target[]): Uint8Array[] {
  if (proxy.protocol === 'http')
    return [NOTHING, NOTHING, ...targets.map((target) => httpRequest(proxy, target))];
  return [socksGreeting(proxy), socksPassword(proxy), ...targets.map(socksRequest)];
}

/** Where connect(2) leads, and which of the targets is asked for there. */
function hopsOf({ ways, proxy }: RoutePlan): (Candidate & { request: number })[] {
  if (proxy === undefined) return ways.map((way) => ({ ...(way as Candidate), request: 0 }));
  return ways.flatMap((_, request) =>
    inTurns(proxy.addresses, proxy.server.port).map((hop) => ({ ...hop, request })),
  );
}

/** The same for every connection that goes this way: a lasting verdict may have it. */
export class Route {
  readonly native: NativeRoute;
  readonly hops: readonly Endpoint[];
  /** Does another proxy dial the destinations? */
  readonly isVia: boolean;
  readonly #plan: RoutePlan;

  private constructor(native: NativeRoute, hops: readonly Endpoint[], plan: RoutePlan) {
    this.native = native;
    this.hops = hops;
    this.isVia = plan.proxy !== undefined;
    this.#plan = plan;
  }

  /** A route, or the negative errno of an address that this host cannot dial. */
  static of(plan: RoutePlan): Route | number {
    const { ways, proxy, header } = plan;
    const hops = hopsOf(plan).slice(0, MOST_HOPS);
    const native = binding().relayRoute(
      hops.flatMap(({ address, port, request, turn }) => [address, port, request, turn]),
      PROTOCOLS[proxy?.server.protocol ?? 'none'],
      proxy === undefined ? [NOTHING, NOTHING] : messagesFor(proxy.server, ways),
      header?.version ?? 0,
      header?.destination?.address ?? null,
      header?.destination?.port ?? 0,
      Buffer.from(header?.authority ?? ''),
    );
    return typeof native === 'number' ? native : new Route(native, hops, plan);
  }

  /**
   * What has ended it: the last hop's error, with those of the others as `cause`.
   *
   * @param failures at least one struct HopFailure
   */
  error(failures: readonly number[], source: Endpoint): CodedError | SystemError {
    const errors: (CodedError | SystemError)[] = [...this.#plan.refusals];
    for (let at = 0; at < failures.length; at += NUMBERS_OF_FAILURE)
      errors.push(this.#errorOf(failures[at]!, failures[at + 1]!, failures[at + 2]!, source));
    const last = errors.pop()!;
    if (errors.length > 0) last.cause = new AggregateError(errors, 'What was tried before has failed too');
    return last;
  }

  #errorOf(hop: number, step: number, number: number, source: Endpoint): CodedError | SystemError {
    const { proxy, timeout } = this.#plan;
    if (step === HANDSHAKE) return handshakeError(proxy!.server, number & 0xff, number >> 8, timeout);
    return dialError(-number, step, { source, destination: this.hops[hop]! });
  }
}
