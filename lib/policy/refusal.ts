// Why a connection is not dialled on to where it was going, and the count of such refusals.
import { codedError, type CodedError } from '../errors.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import { egressRefusal, type EgressPolicy } from './egress.ts';
import { loopRefusal } from './loop-guard.ts';

/** Why a connection is not dialled on, or undefined when it may be. */
export function destinationRefusal(
  destination: OriginalDst,
  egress: EgressPolicy | undefined,
  mark: number | undefined,
): CodedError | undefined {
  if (destination.kind !== 'unknown')
    return egressRefusal(egress, destination) ?? loopRefusal(destination, mark);
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
