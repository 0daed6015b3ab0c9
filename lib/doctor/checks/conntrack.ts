// Is there connection tracking, and is it at work?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import { sysctl } from '../sysctl.ts';

const finding = new Findings('conntrack');

/** SO_ORIGINAL_DST: is there connection tracking, and does it see connections of this network namespace? */
export const conntrack: Check = async (context) => {
  const { host } = context;
  if (sysctl(host, 'net.netfilter.nf_conntrack_max') === undefined) {
    const detail = 'REDIRECT is NAT and needs it, SO_ORIGINAL_DST asks it. TPROXY works without.';
    const title = 'this kernel has no connection tracking loaded';
    const remedy = 'modprobe nf_conntrack';
    if (context.subject.mode === 'tproxy') return [finding.warning(title, detail, remedy)];
    return [finding.problem(title, detail, remedy)];
  }
  let active: { family: string; answer: number }[];
  try {
    const native = host.binding();
    active = ([4, 6] as const).map((family) => ({
      family: `IPv${family}`,
      answer: native.conntrackActive(family, -1),
    }));
  } catch {
    return []; // no addon; that is a finding of its own
  }
  const tracked = active.filter(({ answer }) => answer === 1).map(({ family }) => family);
  const redirected = (await context.rules()).rules.some(({ kind }) => kind !== 'tproxy');
  if (tracked.length === 0 && redirected) {
    return [
      finding.warning(
        'loopback connections are not tracked although rules redirect',
        'A `notrack` rule, or a table that holds no NAT chain. A redirected connection without an entry cannot be recovered.',
        'nft list ruleset',
      ),
    ];
  }
  const detail =
    tracked.length === 0
      ? 'Loaded, and idle in this network namespace: the first NAT or `ct` rule switches it on. Until then every connection is direct.'
      : 'Connections of this network namespace have entries, SO_ORIGINAL_DST answers.';
  return [finding.ok(tracked.length === 0 ? 'idle' : `active for ${tracked.join(' and ')}`, detail)];
};
