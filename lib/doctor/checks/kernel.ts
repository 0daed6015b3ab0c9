// Is the kernel new enough?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('kernel');

/** Before 5.2 an `inet` table of nftables cannot hold NAT chains. */
const OLDEST = [5, 2] as const;

/** uname(2) */
export const kernel: Check = ({ host }) => {
  if (host.platform !== 'linux') {
    return [
      finding.problem(
        `this is ${host.platform}`,
        'Interception as this package knows it is a feature of the Linux kernel. Importing works here, calls throw.',
      ),
    ];
  }
  const release = (host.read('/proc/sys/kernel/osrelease') ?? '').trim();
  const [major, minor] = (/^(\d+)\.(\d+)/.exec(release)?.slice(1) ?? ['0', '0']).map(Number) as [
    number,
    number,
  ];
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
    return [
      finding.warning(
        `Linux ${release} is old`,
        'nftables before Linux 5.2 has no NAT in `inet` tables, and some of what the rules of this package say it cannot do. Rules for iptables work.',
      ),
    ];
  }
  return [finding.ok(`Linux ${release}`, 'New enough for everything this package does.')];
};
