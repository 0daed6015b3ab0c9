// Does the reverse path filter know of marks?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import { perInterface, sysctl } from '../sysctl.ts';

const finding = new Findings('src-valid-mark');

/**
 * net.ipv4.conf.*.src_valid_mark: the check of a packet's source then uses its mark. TPROXY's mark leads every
 * address to loopback, so the client's address looks like one of our own, and the packet is dropped.
 */
export const srcValidMark: Check = async (context) => {
  const { host } = context;
  const all = sysctl(host, 'net.ipv4.conf.all.src_valid_mark') ?? 0;
  const on = perInterface(host, 'src_valid_mark')
    .filter(({ device, value }) => device !== 'lo' && (all !== 0 || value !== 0))
    .map(({ device }) => device);
  if (on.length === 0)
    return [finding.ok('src_valid_mark is off', 'The source check does not look at marks.')];
  const title = `src_valid_mark is on for ${on.join(', ')}`;
  const detail =
    'Connections from outside that TPROXY marks are dropped as martians, with any rp_filter: looked up with the mark, the client’s address is routed to loopback. wg-quick sets it.';
  const remedy = `sysctl -w ${['all', ...on].map((device) => `net.ipv4.conf.${device.replaceAll('.', '/')}.src_valid_mark=0`).join(' ')}`;
  if (await context.tproxyWanted()) return [finding.problem(title, detail, remedy)];
  return [finding.warning(title, detail, remedy)];
};
