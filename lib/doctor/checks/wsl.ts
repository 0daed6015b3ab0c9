// Is this Windows Subsystem for Linux?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('wsl');

/** Windows Subsystem for Linux: 1 has no Linux kernel at all, 2 has Microsoft's. */
export const wsl: Check = ({ host }) => {
  const release = (host.read('/proc/sys/kernel/osrelease') ?? '').trim();
  if (!/microsoft/i.test(release)) return [];
  if (!/WSL2|microsoft-standard/i.test(release)) {
    return [
      finding.problem(
        'this is WSL 1',
        'It translates system calls and has no netfilter: nothing can be intercepted.',
        'wsl.exe --set-version "$WSL_DISTRO_NAME" 2',
      ),
    ];
  }
  return [
    finding.warning(
      'this is WSL 2',
      'Rules catch what happens inside this virtual machine; programs of Windows go past them. With networkingMode=mirrored, connections of Windows to localhost do not pass the nat chains either.',
    ),
  ];
};
