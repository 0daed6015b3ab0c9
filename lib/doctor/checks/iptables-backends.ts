// Are there rules of both iptables back-ends, or such as iptables cannot show?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('iptables-backends');

/** /proc/net/ip_tables_names and the nftables ruleset: the kernel runs both, each program shows one. */
export const iptablesBackends: Check = async (context) => {
  const { legacyTables, nativeTables, compatTables, hiddenTables } = await context.rules();
  const [hidden] = hiddenTables;
  if (hidden !== undefined) {
    return [
      finding.warning(
        `iptables cannot show its table ${hidden}`,
        'A rule of nft’s own is in it, and `iptables-save` then leaves the whole table out: whoever sets up rules with iptables no longer sees what is there. Such a rule belongs into a table of its own.',
        `nft -a list table ${hidden}`,
      ),
    ];
  }
  if (legacyTables.length > 0 && (nativeTables || compatTables)) {
    return [
      finding.warning(
        'rules of legacy iptables and of nftables are in force together',
        `Legacy tables: ${legacyTables.join(', ')}. A packet passes through both, at each hook in an order that depends on who came first, and \`iptables-save\` shows one of the two. Keep one.`,
        'iptables-legacy-save; nft list ruleset',
      ),
    ];
  }
  const inUse =
    legacyTables.length > 0 ? 'legacy iptables' : nativeTables || compatTables ? 'nftables' : 'nothing';
  return [finding.ok(`${inUse} in use`, 'There are not two kinds of rules side by side.')];
};
