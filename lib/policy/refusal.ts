// Why a connection is not dialled on to where it was going, and the count of such refusals.
import { codedError, type CodedError } from '../errors.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { Place } from '../recover/place.ts';
import { egressRefusal, type EgressPolicy, type EgressSubject } from './egress.ts';
import { loopRefusal } from './loop-guard.ts';

/** Why an address, in canonical form, is not dialled, or undefined when it may be. */
export function endpointRefusal(
  endpoint: EgressSubject,
  egress: EgressPolicy | undefined,
  mark: number | undefined,
  place?: Place,
): CodedError | undefined {
  return egressRefusal(egress, endpoint) ?? loopRefusal(endpoint, mark, place);
}

/** Why a connection, whose client has `said` so much, is not dialled on, or undefined when it may be. */
export function destinationRefusal(
  destination: OriginalDst,
  egress: EgressPolicy | undefined,
  mark: number | undefined,
  place?: Place,
  said: Pick<EgressSubject, 'name' | 'ech' | 'protocol'> = {},
): CodedError | undefined {
  if (destination.kind !== 'unknown') {
    const { address, port } = destination;
    const { name, ech, protocol } = said;
    return endpointRefusal({ address, port, name, ech, protocol }, egress, mark, place);
  }
  const { cause } = destination;
  return codedError(
    'ERR_UNKNOWN_DESTINATION',
    `It is not known where this connection was going: ${cause.message}`,
    { cause },
  );
}

/** Counts a refusal by its code. */
export function countRefusal(refused: Record<string, number>, error: CodedError): void {
  refused[error.code] = (refused[error.code] ?? 0) + 1;
}
