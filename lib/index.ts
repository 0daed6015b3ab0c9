export type { Endpoint } from './address.ts';
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
