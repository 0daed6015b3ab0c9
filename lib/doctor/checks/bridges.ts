// Does a bridge run netfilter itself, ahead of this host?
import type { Check } from '../context.ts';
import { type Finding, Findings } from '../finding.ts';
import type { FoundRule } from '../found-rules.ts';
import { type Bridge, filteredBridge, listBridges, named } from '../../rules/install/bridges.ts';

/** Does the rule see what comes in by the bridge? */
function sees({ interfaces, spared }: FoundRule, { ifname }: Bridge): boolean {
  return named(interfaces.length === 0 ? undefined : interfaces, ifname) && !named(spared, ifname);
}

/**
 * br_netfilter: with net.bridge.bridge-nf-call-iptables a bridge runs PREROUTING for its packets itself. The socket that
 * TPROXY chose there is lost before the network layer looks for one; and REDIRECT catches what one neighbour sends to
 * another, which never was to leave the bridge.
 */
export const bridges: Check = async (context) => {
  const incoming = (await context.rulesInQuestion()).filter(
    ({ kind, hooks, localOnly }) =>
      hooks.includes('prerouting') && (kind === 'tproxy' || (kind === 'redirect' && !localOnly)),
  );
  if (incoming.length === 0) return [];
  // BusyBox's ip(8) does not tell.
  const all = await listBridges(context.run).catch(() => []);
  const findings: Finding[] = [];
  for (const family of [4, 6] as const) {
    const finding = new Findings(`bridge-ipv${family}`);
    const rules = incoming.filter(({ families }) => families.includes(family));
    const bridge = (kind: FoundRule['kind']) =>
      all.filter((one) => rules.some((rule) => rule.kind === kind && sees(rule, one)));
    const switches = 'Docker and Kubernetes may rely on that setting';
    const name = `IPv${family}` as const;
    const deaf = await filteredBridge(name, bridge('tproxy'), context.run);
    if (deaf) {
      findings.push(
        finding.problem(
          `TPROXY gets no IPv${family} connection of a bridge: ${deaf.difference.where}, is 1`,
          `The bridge runs netfilter by itself, and the socket that TPROXY chose is lost on the way to this host: connections are refused. ${switches}; otherwise use REDIRECT, or leave the bridge out.`,
          deaf.remedy,
        ),
      );
      continue;
    }
    const greedy = await filteredBridge(name, bridge('redirect'), context.run);
    if (!greedy) continue;
    findings.push(
      finding.warning(
        `REDIRECT also catches IPv${family} connections within a bridge: ${greedy.difference.where}, is 1`,
        `What one neighbour on the bridge sends to another comes to the proxy too, unless a rule leaves their network alone. ${switches}; otherwise exclude the bridge's own network.`,
        greedy.remedy,
      ),
    );
  }
  return findings;
};
