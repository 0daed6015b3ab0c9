// The names of `original-dst/capture`.
/**
 * Capture what one command, and all that it starts, sends: without root, by any port, to a policy.
 *
 * @module capture
 */
export { createCapture, type Capture, type CaptureEvents, type Denial } from './capture.ts';
export type { CaptureOptions } from './options.ts';
export type { CapturedFlow } from './udp-relay.ts';
