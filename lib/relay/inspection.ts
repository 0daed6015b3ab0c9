// Of which connections a relay server looks at the first bytes before it decides.
import { checkInteger, invalidType } from '../arguments.ts';
import { codedError } from '../errors.ts';
import { type InspectLimits, readInspectLimits } from '../names/limits.ts';

/** The `inspect` option of {@link createRelayServer}. */
export interface RelayInspectOptions extends InspectLimits {
  /** The destination ports on which first bytes are waited for; elsewhere `decide` is asked at once. Default: all. */
  ports?: readonly number[];
}

/** The same as the addon takes it. */
export interface Inspection {
  /** Where it leaves the bytes. */
  readonly memory: Buffer;
  /** In order. */
  readonly ports: Uint16Array | undefined;
  readonly timeout: number;
}

const OPTIONS: ReadonlySet<string> = new Set<keyof RelayInspectOptions>(['maxBytes', 'ports', 'timeout']);

/** Throws unless it says what to look at, and for how long. */
export function readInspection(options: unknown): Inspection {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options.inspect', 'of type object', options);
  const unknown = Object.keys(options).find((name) => !OPTIONS.has(name));
  if (unknown !== undefined)
    throw codedError('ERR_INVALID_ARG_VALUE', `"options.inspect" has no property "${unknown}"`, {
      base: TypeError,
    });
  const { ports, ...limits } = options as RelayInspectOptions;
  if (ports !== undefined && !Array.isArray(ports))
    throw invalidType('options.inspect.ports', 'an instance of Array', ports);
  ports?.forEach((port, at) => checkInteger(`options.inspect.ports[${at}]`, port, 1, 65535));
  const { timeout, maxBytes } = readInspectLimits(limits, 'options.inspect');
  return {
    memory: Buffer.alloc(maxBytes),
    ports: ports && Uint16Array.from(ports).sort(),
    timeout,
  };
}
