// Decisions that dial a name: its addresses are found out before they are settled.
import type { NameResolver } from '../dial/name-resolver.ts';
import type { RelayDecision, RoutedVerdict } from './decision.ts';
import type { RelayServerOptions } from './server-options.ts';
import { isNamed, type NamedTarget, resolveTarget } from './target.ts';
import type { Question } from './undecided.ts';

/** The name in a decision that dials one, and does not leave that to another proxy. */
export function namedIn(decision: RelayDecision): NamedTarget | undefined {
  const { to, via } = (decision ?? {}) as Partial<RoutedVerdict>;
  return via === undefined && isNamed(to) ? to : undefined;
}

/** The decision, once it is there, with the addresses in place of the name. */
export async function withAddresses(
  given: RelayDecision | PromiseLike<RelayDecision>,
  { destination }: Question,
  resolver: NameResolver,
  egress: RelayServerOptions['egress'],
): Promise<RelayDecision> {
  const decision = await given;
  const to = namedIn(decision);
  if (to === undefined) return decision;
  const resolved: unknown = await resolveTarget(to, destination, resolver, egress);
  return { ...(decision as RoutedVerdict), to: resolved as NamedTarget };
}
