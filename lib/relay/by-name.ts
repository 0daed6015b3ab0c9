// Decisions with names in them: their addresses are found out before they are settled.
import { canonicalAddress } from '../address.ts';
import type { NameResolver } from '../dial/name-resolver.ts';
import { checkProxyServer, type ProxyServer } from '../dial/proxy-server.ts';
import type { CodedError } from '../errors.ts';
import type { RelayDecision, RoutedVerdict } from './decision.ts';
import type { RelayServerOptions } from './server-options.ts';
import { isNamed, type NamedTarget, type RelayTarget, resolveTarget } from './target.ts';
import type { Question } from './undecided.ts';

/** A proxy that is known by its name, and its addresses, or why it has none. */
export class ResolvedVia {
  readonly server: ProxyServer;
  readonly found: string[] | CodedError;

  constructor(server: ProxyServer, found: string[] | CodedError) {
    this.server = server;
    this.found = found;
  }
}

function isNamedProxy(via: ProxyServer | undefined): boolean {
  const address = via?.address;
  return typeof address === 'string' && canonicalAddress(address) === undefined;
}

/** Is there a name in the decision that it is not for another proxy to resolve? */
export function hasNames(decision: RelayDecision): boolean {
  if (typeof decision !== 'object' || decision === null) return false;
  const { to, via } = decision as Partial<RoutedVerdict>;
  if (via !== undefined) return isNamedProxy(via);
  return Array.isArray(to) ? to.some(isNamed) : isNamed(to as RelayTarget);
}

async function resolveProxy(via: ProxyServer, resolver: NameResolver): Promise<ResolvedVia> {
  checkProxyServer(via, 'verdict.via');
  try {
    return new ResolvedVia(via, await resolver.resolve(via.address));
  } catch (error) {
    return new ResolvedVia(via, error as CodedError);
  }
}

/** The decision, once it is there, with addresses in place of the names. */
export async function withAddresses(
  given: RelayDecision | PromiseLike<RelayDecision>,
  { destination }: Question,
  resolver: NameResolver,
  egress: RelayServerOptions['egress'],
): Promise<RelayDecision> {
  const decision = await given;
  if (!hasNames(decision)) return decision;
  const { to, via } = decision as RoutedVerdict;
  let resolved: object;
  if (via !== undefined) {
    resolved = { via: await resolveProxy(via, resolver) };
  } else {
    const one = (each: RelayTarget | NamedTarget): unknown =>
      isNamed(each) ? resolveTarget(each, destination, resolver, egress) : each;
    resolved = { to: await (Array.isArray(to) ? Promise.all(to.map(one)) : one(to as NamedTarget)) };
  }
  return { ...(decision as RoutedVerdict), ...resolved };
}
