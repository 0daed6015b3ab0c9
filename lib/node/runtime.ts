// Runtimes that imitate Node, and what is said where they cannot do what was asked.
import { codedError, type CodedError } from '../errors.ts';

/** The name of a runtime that imitates Node's net module with sockets of its own making; undefined on Node. */
export function foreignRuntimeName(): string | undefined {
  return ['bun', 'deno'].find((name) => process.versions[name] !== undefined);
}

/** The error of something that only Node's own sockets can do. `hint`: what can be done elsewhere. */
export function unsupportedRuntime(message: string, hint: string): CodedError {
  return codedError('ERR_UNSUPPORTED_RUNTIME', message, { hint });
}
