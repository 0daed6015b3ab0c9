// Is the conntrack table full?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import { sysctl } from '../sysctl.ts';

const finding = new Findings('conntrack-table');

const NEARLY_FULL = 0.9;

/** Sums a column of /proc/net/stat/nf_conntrack, which has a line for each processor, in hex. */
function column(text: string, name: string): number {
  const [names, ...rows] = text.split('\n').map((line) => line.trim().split(/\s+/));
  const index = names!.indexOf(name);
  return rows.reduce((sum, cells) => sum + Number.parseInt(cells[index] ?? '0', 16), 0);
}

/**
 * nf_conntrack_count, nf_conntrack_max and the drop counters. A full table drops every new connection, loopback
 * included: the proxy sees no accept and no error.
 */
export const conntrackTable: Check = ({ host }) => {
  const max = sysctl(host, 'net.netfilter.nf_conntrack_max');
  const count = sysctl(host, 'net.netfilter.nf_conntrack_count');
  if (max === undefined || count === undefined) return [];
  const statistics = host.read('/proc/net/stat/nf_conntrack') ?? '';
  // `drop` counts failed insertions too, which are clashes of two packets and no sign of a full table.
  const drops = column(statistics, 'drop') - column(statistics, 'insert_failed');
  const early = column(statistics, 'early_drop');
  const usage = `${count} of ${max} entries`;
  const lost = `${drops} packets dropped, ${early} entries thrown out early since this network namespace was made`;
  // In a namespace below the first, the limit is read-only: the remedy is for the host.
  const remedy = `sysctl -w net.netfilter.nf_conntrack_max=${max * 2}`;
  if (max > 0 && count >= max) {
    return [
      finding.problem(
        `the conntrack table is full: ${usage}`,
        `Every new connection is dropped, to this host's own addresses too, and a proxy sees neither accept nor error. ${lost}. The limit can be raised in the initial network namespace only.`,
        remedy,
      ),
    ];
  }
  if (max > 0 && count >= max * NEARLY_FULL) {
    return [finding.warning(`the conntrack table is nearly full: ${usage}`, `${lost}.`, remedy)];
  }
  if (drops > 0 || early > 0) {
    return [
      finding.warning(
        `the conntrack table has been full: ${lost}`,
        `Now it holds ${usage}. Connections were lost in silence.`,
        remedy,
      ),
    ];
  }
  return [finding.ok(usage, `${lost}.`)];
};
