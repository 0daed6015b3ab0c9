// Does a firewall drop what the rules lead to the proxy, or what the proxy sends?
import type { Check } from '../context.ts';
import { type Finding, Findings } from '../finding.ts';
import type { FoundFilter } from '../found-filters.ts';
import type { FoundRule } from '../found-rules.ts';

const finding = new Findings('firewall');

/** A redirected packet comes to INPUT with the proxy's port, one of TPROXY with its own destination and the mark. */
function condition({ kind, port, mark }: FoundRule, { via }: FoundFilter): string | undefined {
  if (kind === 'tproxy') {
    if (mark === undefined) return undefined;
    return via === 'nftables' ? `meta mark ${mark} accept` : `-m mark --mark ${mark} -j ACCEPT`;
  }
  if (port === undefined) return undefined;
  return via === 'nftables' ? `tcp dport ${port} accept` : `-p tcp --dport ${port} -j ACCEPT`;
}

function passes({ kind, port, mark }: FoundRule, { acceptedPorts, acceptedMarks }: FoundFilter): boolean {
  return kind === 'tproxy' ? acceptedMarks.includes(mark!) : acceptedPorts.includes(port!);
}

/** Chains at INPUT and OUTPUT that drop what no rule of theirs accepts. */
export const firewall: Check = async (context) => {
  const own = await context.rulesInQuestion();
  if (own.length === 0) return [];
  // What this host sends to itself comes by loopback, which firewalls let pass.
  const rules = own.filter(({ hooks }) => hooks.includes('prerouting'));
  const filters = await context.filters();
  const findings: Finding[] = [];
  for (const filter of filters) {
    if (filter.hook === 'output') {
      findings.push(
        finding.warning(
          `${filter.place} drops what it does not accept`,
          'What the proxy dials must be accepted there, or clients wait for an answer until they give up.',
        ),
      );
      continue;
    }
    const blocked = rules.find((rule) => {
      const shared = rule.families.some((family) => filter.families.includes(family));
      return shared && condition(rule, filter) !== undefined && !passes(rule, filter);
    });
    if (!blocked) continue;
    const arrives = blocked.kind === 'tproxy' ? `the mark ${blocked.mark}` : `port ${blocked.port}`;
    findings.push(
      finding.warning(
        `${filter.place} drops what it does not accept, and no rule of its table accepts ${arrives}`,
        `What ${blocked.place} leads to the proxy arrives there with ${arrives}: unless another rule lets it pass, clients get no answer.`,
        `${filter.insert} ${condition(blocked, filter)}`,
      ),
    );
  }
  return findings.length > 0
    ? findings
    : [finding.ok('no firewall is in the way', 'Nothing is dropped by default.')];
};
