// Are there rules, and do packets meet them?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import type { FoundRule } from '../found-rules.ts';

const finding = new Findings('rules');
const counters = new Findings('rules-counters');

function describe({ kind, place, port, packets }: FoundRule): string {
  const seen = packets === undefined ? 'no counter' : `${packets} packets`;
  return `${kind} to ${port === undefined ? 'the same port' : `port ${port}`} in ${place} (${seen})`;
}

/** The nftables and iptables rules of this network namespace: is anything sent to the proxy, and has anything come? */
export const rules: Check = async (context) => {
  const { readable, rules } = await context.rules();
  const { port } = context.subject;
  const remedy = `original-dst rules apply --port ${port ?? 15001} --exempt-uid "$(id -u proxy)"`;
  if (!readable) {
    return [
      finding.warning(
        'the rules cannot be read',
        'Reading them needs nft(8) and CAP_NET_ADMIN. What depends on them is not checked.',
        'sudo original-dst doctor',
      ),
    ];
  }
  if (rules.length === 0) {
    const title = 'no rule of this network namespace intercepts anything';
    const detail = 'Without rules every connection goes where it was going.';
    return [
      port === undefined ? finding.warning(title, detail, remedy) : finding.problem(title, detail, remedy),
    ];
  }
  const own = await context.rulesInQuestion();
  if (own.length === 0) {
    return [
      finding.problem(
        `no rule leads to port ${port}`,
        `There is: ${rules.map(describe).join('; ')}. Either the proxy listens at the wrong port or the rules name the wrong one.`,
        remedy,
      ),
    ];
  }
  const found = finding.ok(`${own.length} rules intercept`, `${own.map(describe).join('; ')}.`);
  const counted = own.filter(({ packets }) => packets !== undefined);
  if (counted.length === 0) return [found];
  const sum = counted.reduce((total, { packets }) => total + packets!, 0);
  if (sum > 0) return [found, counters.ok(`${sum} packets matched`, 'The rules catch something.')];
  return [
    found,
    counters.warning(
      'no packet has matched any of the rules',
      'Nothing was sent yet, or an earlier rule, an exemption or another table takes the packets away.',
      'nft list ruleset',
    ),
  ];
};
