// The end of a proxy: new connections pass it by, open ones come to their end, then the rules go.
import { apply, type ApplyOptions, draining, type RulePlan } from '../rules/index.ts';
import type { Forwarder } from './forwarder.ts';
import type { RulesGuard } from './rules-guard.ts';
import { allAccepted, allAcknowledged } from './tcp-table.ts';

/** How long a handshake, or the acknowledgement of a FIN, may be on its way. */
const ON_ITS_WAY_MS = 1000;

/** Rules that lead to a proxy's listener. */
export interface ProxyRules {
  plan: RulePlan;
  options: ApplyOptions;
  /** The listener's. */
  port: number;
  guard: RulesGuard;
}

/**
 * Lets a proxy's connections end, and those that begin meanwhile go past it. Afterwards its rules are not needed any
 * more.
 *
 * @param graceMs how long connections may take; then they are ended
 * @param hurry nothing is waited for any longer
 */
export async function drain(
  forwarder: Forwarder,
  rules: ProxyRules | undefined,
  graceMs: number,
  hurry: AbortSignal,
): Promise<void> {
  if (rules) {
    await apply(draining(rules.plan), rules.options);
    // Closing a listener resets what it has not accepted.
    await allAccepted(rules.port, AbortSignal.any([hurry, AbortSignal.timeout(ON_ITS_WAY_MS)]));
  }
  const grace = AbortSignal.any([hurry, AbortSignal.timeout(graceMs)]);
  await forwarder.drain(hurry.aborted ? 0 : graceMs);
  if (rules) {
    // What a slow client has not read yet is the kernel's to send.
    await allAcknowledged(rules.port, grace);
    // Also what the end of the grace has just sent.
    await allAcknowledged(rules.port, AbortSignal.timeout(ON_ITS_WAY_MS));
  }
}
