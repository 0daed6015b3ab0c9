// The names of `original-dst`.
/**
 * Where an intercepted connection was really going: accept it, dial on, move its bytes.
 *
 * @module original-dst
 */
export type { Endpoint } from './address.ts';
export type { DiagnosticsMessages } from './diagnostics.ts';
export type {
  ConnectionMessage,
  ConnectionSubject,
  DecisionMessage,
  ErrorMessage,
} from './accept/channels.ts';
export type { DialedPlaces, DialTarget, SocketDialMessage } from './dial/channel.ts';
export type { RelayDialMessage, RelayMessage, RelaySubject } from './relay/channel.ts';
export type { DatagramMessage } from './udp/channel.ts';
export { connectOriginal, type ConnectOriginalOptions } from './dial/connect-original.ts';
export { connect, type ConnectOptions, type DialOptions, type DialSource } from './dial/connect.ts';
export type { EgressLists, EgressPolicy } from './policy/egress.ts';
export { createDnsForwarder, type DnsForwarder } from './dns/forwarder.ts';
export type { DnsAsker, DnsForwarderEvents, DnsRecord, DnsStats } from './dns/forwarder.ts';
export type { DnsDecision, DnsForwarderOptions, DnsListenOptions, DnsVerdict } from './dns/options.ts';
export type { DnsQuestion } from './dns/query.ts';
export { NameTable, type NameTableOptions } from './names/name-table.ts';
export type { NamedAddress, NamedAddresses } from './names/answer-addresses.ts';
export { SyntheticAddresses, type SyntheticOptions } from './names/synthetic.ts';
export {
  NamePolicy,
  type NamePolicyRules,
  type PolicyExplanation,
  type PolicySubject,
} from './policy/name-policy.ts';
export type { PolicyProtocol } from './policy/rule.ts';
export { connectVia, type ConnectViaOptions } from './dial/via.ts';
export type { ProxiedDestination, ProxyServer } from './dial/proxy-server.ts';
export type { ProxyError } from './dial/handshake.ts';
export { createDatagramSocket } from './udp/datagram-socket.ts';
export type {
  DatagramAddress,
  DatagramRoute,
  DatagramDelivery,
  DatagramInfo,
  DatagramSocketEvents,
  DatagramSocketOptions,
  DatagramStats,
  InterceptedDatagramSocket,
} from './udp/types.ts';
export type { DatagramDestination } from './udp/destination.ts';
export type { CodedError, SystemError } from './errors.ts';
export {
  type ConnectionEvents,
  createServer,
  type HandledDst,
  intercept,
  type Intercepted,
  type InterceptedSocket,
  type InterceptOptions,
  type InterceptServer,
  type InterceptVerdict,
} from './accept/intercept.ts';
export type { ClientLimitOptions } from './accept/client-limits.ts';
export type { ProxyProtocolOptions } from './accept/proxy-protocol.ts';
export { clientOf, proxyHeader, type ProxyHeader, type ProxyTlv } from './recover/proxy-header.ts';
export type { InterceptListenOptions } from './accept/listen-inside.ts';
export type { InterceptStats } from './accept/stats.ts';
export {
  originalDst,
  recoverOriginalDst,
  type KnownDst,
  type OriginalDst,
  type UnknownDst,
} from './recover/original-dst.ts';
export type { ClientProcess } from './recover/proc.ts';
export { processOf, type ConnectionEnds, type ProcessOfOptions } from './recover/process-of.ts';
export {
  getOriginalDst,
  getTransparent,
  setBindAddressNoPort,
  setFreebind,
  setMark,
  setTransparent,
} from './raw-fd.ts';
export type { FirstBytes } from './names/first-bytes.ts';
export { relay, type RelayOptions, type RelayToOptions } from './relay/relay.ts';
export type { RelayDestination, RelayDialOptions } from './relay/destination.ts';
export { setRelayThreads } from './relay/engine.ts';
export type { Relay, RelayEvents } from './relay/relay-object.ts';
export type { RelayOutcome, RelaySide } from './relay/outcome.ts';
export {
  VirtualListeners,
  type ConnectionTarget,
  type VirtualListenerAddress,
} from './accept/virtual-listeners.ts';
export type { LastingVerdict, RelayDecision, RelayVerdict, RoutedVerdict } from './relay/decision.ts';
export type { NamedTarget, RelayTarget } from './relay/target.ts';
export { inspect, type InspectOptions } from './names/inspect.ts';
export { inspectQuic, type QuicFirstBytes } from './names/quic.ts';
export type { ResolvedAddress, ResolveOptions } from './dial/name-resolver.ts';
export type { InspectLimits } from './names/limits.ts';
export type { RelayInspectOptions } from './relay/inspection.ts';
export type { RelayListenOptions, RevokedVerdicts } from './relay/listener.ts';
export { createRelayServer } from './relay/relay-server.ts';
export type { DrainError, DrainOptions } from './relay/draining.ts';
export type { RelayServer, RelayServerEvents } from './relay/types.ts';
export type { AdmissionOptions } from './relay/admission.ts';
export type { RelayServerOptions } from './relay/server-options.ts';
export type { ConnectionRecord } from './relay/records.ts';
export type { Histogram } from './relay/histogram.ts';
export type { RelayServerStats } from './relay/server-stats.ts';
export type { RelayTimeouts } from './relay/timeouts.ts';
export type { PendingConnection } from './relay/undecided.ts';
export { Namespace, type NamespaceCreateOptions, type NamespaceSpawnOptions } from './namespace/namespace.ts';
export type { RunOptions, RunResult } from './namespace/run.ts';
