// Where a relay server dials for a connection: where the client was going, or where the policy sends it.
import { canonicalAddress, familyOf, type Endpoint } from '../address.ts';
import { checkInteger, invalidType } from '../arguments.ts';
import { sourceMismatch } from '../dial/connect.ts';
import type { CodedError } from '../errors.ts';
import { destinationRefusal, endpointRefusal } from '../policy/refusal.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { Place } from '../recover/place.ts';
import type { RelayServerOptions } from './server-options.ts';

/** Another place to dial. The egress policy and the loop guard judge it as they would the client's destination. */
export interface RelayTarget {
  /** A literal IP address. */
  address: string;
  /** Default: the port that the client dialled. Where that is not known, one must be given. */
  port?: number;
}

/** A place that is known by its name to the proxy which is to dial it. An egress policy cannot judge it. */
export interface NamedTarget {
  name: string;
  port: number;
}

export function isNamed(to: RelayTarget | NamedTarget | undefined): to is NamedTarget {
  return (to as NamedTarget | undefined | null)?.name !== undefined;
}

/** Throws unless it is a place to dial. */
export function checkTarget(name: string, to: unknown): asserts to is RelayTarget {
  if (typeof to !== 'object' || to === null) throw invalidType(name, 'of type object', to);
  const { address, port } = to as RelayTarget;
  if (typeof address !== 'string' || canonicalAddress(address) === undefined)
    throw invalidType(`${name}.address`, 'a literal IP address', address);
  if (port !== undefined) checkInteger(`${name}.port`, port, 1, 65535);
}

/** Where to dial for this client, or why not. */
export function whereTo(
  destination: OriginalDst,
  client: Endpoint,
  to: RelayTarget | undefined,
  { egress, mark, preserveSource = false }: Pick<RelayServerOptions, 'egress' | 'mark' | 'preserveSource'>,
  place: Place,
): Endpoint | CodedError {
  if (to === undefined)
    return destinationRefusal(destination, egress, mark, place) ?? (destination as Endpoint);
  const port = to.port ?? (destination.kind === 'unknown' ? undefined : destination.port);
  // Of a destination that is not known, the port is not known either.
  if (port === undefined) return destinationRefusal(destination, egress, mark, place)!;
  const address = canonicalAddress(to.address)!;
  const target: Endpoint = { address, port, family: familyOf(address) };
  return (
    (preserveSource === false ? undefined : sourceMismatch(address, client.address)) ??
    endpointRefusal(target, egress, mark, place) ??
    target
  );
}
