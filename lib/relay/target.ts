// Where a relay server dials for a connection: where the client was going, or where the policy sends it.
import { canonicalAddress, familyOf, type Endpoint } from '../address.ts';
import { checkInteger, invalidType } from '../arguments.ts';
import { sourceMismatch } from '../dial/connect.ts';
import type { NameResolver } from '../dial/name-resolver.ts';
import type { CodedError } from '../errors.ts';
import { egressRefusal, nameRefusal } from '../policy/egress.ts';
import { carriedAddress, nameAddressRefusal } from '../policy/name-addresses.ts';
import { destinationRefusal, endpointRefusal } from '../policy/refusal.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { Place } from '../recover/place.ts';
import type { RelayServerOptions } from './server-options.ts';
import type { Question } from './undecided.ts';

/** Another place to dial. The egress policy and the loop guard judge it as they would the client's destination. */
export interface RelayTarget {
  /** A literal IP address. */
  address: string;
  /** Default: the port that the client dialled. Where that is not known, one must be given. */
  port?: number;
}

/**
 * A place that is known by its name. This server resolves it (option `resolve`) and dials its addresses by turns, 250 ms
 * each and the last as long as any, until one answers (as Happy Eyeballs, RFC 8305). The egress policy and the loop
 * guard judge each of them, and none may be this host's own, of its link or a cloud's metadata server, however it
 * is written, by NAT64 too: `ERR_NAME_REFUSED`. With `via` the proxy resolves it, and nobody here can judge that.
 */
export interface NamedTarget {
  name: string;
  /** Default: as of {@link RelayTarget}; with `via` one must be given. */
  port?: number;
}

/** The addresses of a name, or why it has none. */
export class ResolvedTarget {
  readonly name: string;
  readonly port: number | undefined;
  readonly found: string[] | CodedError;

  constructor(name: string, port: number | undefined, found: string[] | CodedError) {
    this.name = name;
    this.port = port;
    this.found = found;
  }
}

/** A target as a decision has it that is about to be settled: a name is for the proxy that it goes by. */
export type ReadTarget = RelayTarget | NamedTarget | ResolvedTarget;

/** An address that may be dialled. */
export interface Candidate extends Endpoint {
  /** After how many milliseconds it is the next one's turn; 0: when connecting has failed, or taken too long. */
  turn: number;
}

/** RFC 8305, 5: Connection Attempt Delay, in milliseconds. */
const ATTEMPT_DELAY = 250;

/** The addresses of one place: dialled one after the other. */
export function inTurns(addresses: readonly string[], port: number): Candidate[] {
  return addresses.map((address, i) => ({
    address,
    port,
    family: familyOf(address),
    turn: i + 1 < addresses.length ? ATTEMPT_DELAY : 0,
  }));
}

type DialRules = Pick<RelayServerOptions, 'egress' | 'mark' | 'preserveSource'>;

export function isNamed(to: ReadTarget | undefined): to is NamedTarget {
  return (to as NamedTarget | undefined | null)?.name !== undefined;
}

/** Throws unless it is a place to dial. */
export function checkTarget(name: string, to: unknown): asserts to is RelayTarget {
  if (typeof to !== 'object' || to === null) throw invalidType(name, 'of type object', to);
  const { address, port } = to as RelayTarget;
  if (typeof address !== 'string' || canonicalAddress(address) === undefined)
    throw invalidType(`${name}.address`, 'a literal IP address, or a name in its place', address);
  if (port !== undefined) checkInteger(`${name}.port`, port, 1, 65535);
}

/** Throws unless it is a name to dial. */
function checkNamed(name: string, to: NamedTarget): void {
  if (typeof to.name !== 'string' || 'address' in to)
    throw invalidType(`${name}.name`, 'of type string, without an address', to.name);
  if (to.port !== undefined) checkInteger(`${name}.port`, to.port, 1, 65535);
}

/** Resolves a name, unless the policy is against it by name alone: then nobody is asked about it. */
export async function resolveTarget(
  to: NamedTarget,
  destination: OriginalDst,
  resolver: NameResolver,
  egress: RelayServerOptions['egress'],
): Promise<ResolvedTarget> {
  checkNamed('verdict.to', to);
  const { name, port } = to;
  const at = port ?? (destination as Partial<Endpoint>).port;
  const refused = at === undefined ? undefined : nameRefusal(egress, { name, port: at });
  if (refused) return new ResolvedTarget(name, at, refused);
  try {
    return new ResolvedTarget(name, at, await resolver.resolve(name));
  } catch (error) {
    return new ResolvedTarget(name, at, error as CodedError);
  }
}

/** Why an address of a name is not dialled. */
function candidateRefusal(
  { name, port, address }: { name: string; port: number; address: string },
  client: Endpoint,
  { egress, mark, preserveSource = false }: DialRules,
  place: Place,
): CodedError | undefined {
  const carried = carriedAddress(address);
  return (
    (preserveSource === false ? undefined : sourceMismatch(address, client.address)) ??
    nameAddressRefusal(name, { address }) ??
    endpointRefusal({ name, address, port }, egress, mark, place) ??
    (carried === undefined ? undefined : egressRefusal(egress, { name, address: carried, port }))
  );
}

function ofName(
  { name, found }: ResolvedTarget,
  port: number,
  client: Endpoint,
  rules: DialRules,
  place: Place,
): Candidate[] | CodedError {
  if (found instanceof Error) return found;
  const refusals = found.map((address) => candidateRefusal({ name, port, address }, client, rules, place));
  const addresses = found.filter((_, i) => refusals[i] === undefined);
  return addresses.length > 0 ? inTurns(addresses, port) : refusals[0]!;
}

/** Where to dial for this client, best first, or why nowhere. */
export function whereTo(
  { destination, client, first }: Pick<Question, 'destination' | 'client' | 'first'>,
  to: ReadTarget | undefined,
  rules: DialRules,
  place: Place,
): Candidate[] | CodedError {
  const { egress, mark, preserveSource = false } = rules;
  if (to === undefined) {
    const refused = destinationRefusal(destination, egress, mark, place, first);
    if (refused) return refused;
    // Not by `...`: V8 then makes a map of its own for each object, which costs more than all else in here.
    const { address, port, family } = destination as Endpoint;
    return [{ address, port, family, turn: 0 }];
  }
  // Of a destination that is not known, the port is not known either.
  const port = to.port ?? (destination as Partial<Endpoint>).port;
  if (port === undefined) return destinationRefusal(destination, egress, mark, place)!;
  if (to instanceof ResolvedTarget) return ofName(to, port, client, rules, place);
  const address = canonicalAddress((to as RelayTarget).address)!;
  const target: Candidate = { address, port, family: familyOf(address), turn: 0 };
  return (
    (preserveSource === false ? undefined : sourceMismatch(address, client.address)) ??
    endpointRefusal(target, egress, mark, place) ?? [target]
  );
}
