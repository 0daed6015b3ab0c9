export type { Endpoint } from './address.ts';
export { connectOriginal, type ConnectOriginalOptions } from './connect-original.ts';
export { connect, type ConnectOptions, type DialOptions, type Source } from './dial.ts';
export type { EgressPolicy } from './egress.ts';
export {
  createDatagramSocket,
  type DatagramAddress,
  type DatagramInfo,
  type DatagramSocketOptions,
  type DatagramStats,
  type InterceptedDatagramSocket,
} from './datagram.ts';
export type { DatagramDestination } from './datagram-destination.ts';
export type { CodedError, SystemError } from './errors.ts';
export {
  type ConnectionEvents,
  createServer,
  intercept,
  type Intercepted,
  type InterceptedSocket,
  type InterceptOptions,
  type InterceptServer,
  type InterceptStats,
  type Verdict,
} from './intercept.ts';
export {
  originalDst,
  recoverOriginalDst,
  type KnownDst,
  type OriginalDst,
  type UnknownDst,
} from './original-dst.ts';
export {
  getOriginalDst,
  getTransparent,
  setBindAddressNoPort,
  setFreebind,
  setMark,
  setTransparent,
} from './raw.ts';
export { relay, type RelayOptions } from './relay.ts';
export { setRelayThreads } from './relay-engine.ts';
export type { Relay } from './relay-object.ts';
export type { RelayOutcome, RelaySide } from './relay-outcome.ts';
export { VirtualListeners, type ConnectionTarget, type VirtualListenerAddress } from './virtual-listeners.ts';
export {
  createRelayServer,
  type LastingVerdict,
  type RelayDecision,
  type RelayServer,
  type RelayServerOptions,
  type RelayServerStats,
  type RelayVerdict,
} from './relay-server.ts';
