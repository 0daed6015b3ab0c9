// What a relay server cannot do, as errors.
import { codedError, type CodedError } from '../errors.ts';
import { unsupportedRuntime } from '../node/runtime.ts';

/** Bun and Deno make no socket of a descriptor that has been accepted elsewhere. */
export function noSocket(runtime: string): CodedError {
  return unsupportedRuntime(
    `createRelayServer: ${runtime} makes no socket of a connection that the addon has accepted`,
    "answer 'relay' or 'reset', or use Node.js",
  );
}

export function notRunning(): CodedError {
  return codedError('ERR_SERVER_NOT_RUNNING', 'Server is not running.');
}
