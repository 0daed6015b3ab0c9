// Is this qemu-user, which cannot pass on the socket options?
import { constants } from 'node:os';
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import { sysctl } from '../sysctl.ts';

const finding = new Findings('qemu-user');

/** What only a processor of this type says of itself in /proc/cpuinfo. */
const PROCESSOR: Record<string, RegExp> = {
  x64: /^(vendor_id|cpu family)\s*:/m,
  arm64: /^CPU (implementer|architecture)\s*:/m,
};

/** qemu-user, which runs programs of another machine type (`docker run --platform`) and drops options unknown to it. */
export const qemuUser: Check = ({ host }) => {
  const named = (host.read('/proc/self/comm') ?? '').startsWith('qemu-');
  const expected = PROCESSOR[host.arch];
  const cpuinfo = host.read('/proc/cpuinfo') ?? '';
  const foreign =
    expected !== undefined &&
    !expected.test(cpuinfo) &&
    Object.values(PROCESSOR).some((other) => other !== expected && other.test(cpuinfo));
  const unanswered = () => {
    try {
      return host.binding().conntrackActive(4, -1) === -constants.errno.ENOPROTOOPT;
    } catch {
      return false; // no addon; that is a finding of its own
    }
  };
  const lost = sysctl(host, 'net.netfilter.nf_conntrack_max') !== undefined && unanswered();
  if (!named && !foreign && !lost) return [];
  return [
    finding.problem(
      'this program runs under qemu-user',
      `Built for ${host.arch}, run on another machine type. qemu-user passes on neither SO_ORIGINAL_DST nor IP_TRANSPARENT: the kernel could, the emulator answers ENOPROTOOPT. Use an image of the machine's own type, or a whole virtual machine.`,
      'docker run --platform "linux/$(dpkg --print-architecture)" …',
    ),
  ];
};
