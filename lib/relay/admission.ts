// How many connections a relay server takes on, in all and of each client.
import { checkInteger } from '../arguments.ts';

/**
 * What goes beyond is sent RST as soon as it is accepted, whatever verdict there is, and counted in `stats.refused` by
 * the code that is named with each. 0: no limit, the default of all.
 */
export interface AdmissionOptions {
  /**
   * Connections at a time: undecided, being dialled or relayed. One that `decide` gives to `'connection'` is the
   * program's from then on, and does not count. `ERR_MAX_CONNECTIONS`.
   */
  maxConnections?: number;
  /** Connections at a time that `decide` has not decided about. `ERR_MAX_PENDING`. */
  maxPending?: number;
  /** As `maxConnections`, of one client: of an IPv4 address, or of an IPv6 network of 64 bits. `ERR_MAX_PER_CLIENT`. */
  maxPerClient?: number;
  /** New connections of one client in a second; as many may come at once. `ERR_MAX_RATE_PER_CLIENT`. */
  maxRatePerClient?: number;
}

/** struct AdmissionLimits of src/relay/admissions.h. */
export type AdmissionLimits = Uint32Array;

/** The order is that of `Admitted` in src/relay/admissions.h. */
export const REFUSALS = [
  'ERR_MAX_CONNECTIONS',
  'ERR_MAX_PENDING',
  'ERR_MAX_PER_CLIENT',
  'ERR_MAX_RATE_PER_CLIENT',
  'ERR_PROXY_HEADER',
  'ERR_SERVER_NOT_RUNNING',
] as const;

/** Throws unless all are whole numbers. */
export function readAdmission(options: AdmissionOptions): AdmissionLimits {
  const { maxConnections = 0, maxPending = 0, maxPerClient = 0, maxRatePerClient = 0 } = options;
  const limits = { maxConnections, maxPending, maxPerClient, maxRatePerClient };
  for (const [name, value] of Object.entries(limits)) checkInteger(`options.${name}`, value, 0, 2 ** 32 - 1);
  return Uint32Array.of(maxConnections, maxPending, maxPerClient, maxRatePerClient);
}
