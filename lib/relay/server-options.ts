// What createRelayServer() can be told.
import { checkProxyProtocol, type ProxyProtocolOptions } from '../accept/proxy-protocol.ts';
import type { Endpoint } from '../address.ts';
import { checkBoolean, checkInteger, checkOptionNames, invalidType, MAX_MS } from '../arguments.ts';
import { checkPreserveSource } from '../dial/connect-original.ts';
import { checkDialOptions } from '../dial/connect.ts';
import { checkResolve, type ResolveOptions } from '../dial/name-resolver.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import type { Namespace } from '../namespace/namespace.ts';
import type { EgressPolicy } from '../policy/egress.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { type AdmissionOptions, readAdmission } from './admission.ts';
import type { RelayDecision } from './decision.ts';
import { readInspection, type RelayInspectOptions } from './inspection.ts';
import type { RelayTimeouts } from './timeouts.ts';
import type { PendingConnection } from './undecided.ts';

export interface RelayServerOptions extends RelayTimeouts, AdmissionOptions {
  /**
   * The policy. Asked about every connection that no lasting verdict covers; `client` is where it comes from, `first`
   * what its first bytes say, where they were looked at. Of a connection that has not been decided about when its
   * `signal` is aborted no answer is wanted any more.
   */
  decide: (
    destination: OriginalDst,
    client: Endpoint,
    first: FirstBytes | undefined,
    connection: PendingConnection,
  ) => RelayDecision | PromiseLike<RelayDecision>;
  /**
   * Waits for a connection's first bytes before `decide` is asked, which is told as `first` what they say. They stay
   * where they are and are relayed with all others. Default: `decide` is asked at once, and `first` is undefined.
   */
  inspect?: RelayInspectOptions;
  /**
   * Takes the PROXY protocol's header off the connections of the proxies in front, as of createServer: the destination
   * is of kind `'proxy'`, `client` is the header's. Without one, with a bad one or a late one the peer is sent RST, and
   * `stats.refused` counts `ERR_PROXY_HEADER`. The list is read when the server listens.
   */
  proxyProtocol?: ProxyProtocolOptions;
  /** How long a decision may take, in milliseconds; then the client is sent RST. Default 30,000; 0: for ever. */
  decisionTimeout?: number;
  /** As of createServer: IP_TRANSPARENT on the listening socket, for TPROXY rules. Default false. */
  transparent?: boolean;
  /** Dial the destinations in this network namespace. Default: in the one that the server listens in. */
  namespace?: Namespace;
  /** SO_MARK of the connections to the destinations. */
  mark?: number;
  /** As of connectOriginal: dial from the client's own address, with `'port'` from its port too. Default false. */
  preserveSource?: boolean | 'port';
  /** With `preserveSource: 'port'`: when that port is in use towards this destination, take another. Default false. */
  portFallback?: boolean;
  /** Which destinations may be dialled, whatever `decide` says. */
  egress?: EgressPolicy;
  /**
   * How many threads accept, each from the same socket by turns; what one has accepted it dials and relays. Lasting
   * verdicts, limits and `stats` are those of all. Default 1: enough for tens of thousands of connections a second.
   */
  threads?: number;
  /** How names are resolved that `decide` sends connections to. */
  resolve?: ResolveOptions;
}

const OPTIONS: ReadonlySet<string> = new Set<keyof RelayServerOptions>([
  'connectTimeout',
  'deadPeerTimeout',
  'decide',
  'decisionTimeout',
  'egress',
  'halfCloseTimeout',
  'idleTimeout',
  'inspect',
  'mark',
  'maxConnections',
  'maxPending',
  'maxPerClient',
  'maxRatePerClient',
  'namespace',
  'portFallback',
  'preserveSource',
  'proxyProtocol',
  'resolve',
  'threads',
  'transparent',
]);

/** Throws unless these are options of a relay server, all of them. */
export function checkServerOptions(options: RelayServerOptions): void {
  checkDialOptions(options);
  checkPreserveSource(options.preserveSource);
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  checkOptionNames(
    'createRelayServer',
    given.map(([name]) => name),
    OPTIONS,
  );
  readAdmission(options);
  const { decide, decisionTimeout, transparent, threads } = options;
  if (typeof decide !== 'function') throw invalidType('options.decide', 'of type function', decide);
  if (decisionTimeout !== undefined) checkInteger('options.decisionTimeout', decisionTimeout, 0, MAX_MS);
  if (options.inspect !== undefined) readInspection(options.inspect);
  checkProxyProtocol(options.proxyProtocol);
  checkResolve('options.resolve', options.resolve);
  if (threads !== undefined) checkInteger('options.threads', threads, 1, 64);
  if (transparent !== undefined) checkBoolean('options.transparent', transparent);
}
