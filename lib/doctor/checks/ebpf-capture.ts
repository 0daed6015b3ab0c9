// Can eBPF capture work here, in place of rules?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import type { Host } from '../host.ts';
import { hasCapability } from './capabilities.ts';

const finding = new Findings('ebpf-capture');

/** SO_NETNS_COOKIE, the newest thing that a capture needs. */
const OLDEST = [5, 14] as const;

/** Each by its number in capabilities(7). CAP_SYS_ADMIN stands for both. */
const CAP_SYS_ADMIN = 21n;
const NEEDED = { CAP_NET_ADMIN: 12n, CAP_BPF: 39n };

function missingRights(host: Host): string[] {
  if (hasCapability(host, CAP_SYS_ADMIN)) return [];
  return Object.entries(NEEDED).flatMap(([name, bit]) => (hasCapability(host, bit) ? [] : [name]));
}

/** In the order in which they are to be mended. */
function obstacles(host: Host): [why: string, remedy?: string][] {
  const release = (host.read('/proc/sys/kernel/osrelease') ?? '').trim();
  const [major = 0, minor = 0] = (/^(\d+)\.(\d+)/.exec(release)?.slice(1) ?? []).map(Number);
  const found: [string, string?][] = [];
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]))
    found.push([`Linux ${release} is older than ${OLDEST.join('.')}`]);
  if (!/ - cgroup2 /.test(host.read('/proc/self/mountinfo') ?? ''))
    found.push(['cgroup v2 is not mounted', 'mount -t cgroup2 none /sys/fs/cgroup']);
  const missing = missingRights(host);
  if (missing.length > 0) found.push([`this process lacks ${missing.join(' and ')}`]);
  // Of the first user namespace, which maps every id to itself.
  if (!/^\s*0\s+0\s+4294967295\s*$/.test(host.read('/proc/self/uid_map') ?? ''))
    found.push(['this is a user namespace, whose rights bpf(2) does not take']);
  return found;
}

/** Nobody has asked for it: whatever is missing is no problem, unless another program is in its way. */
export const ebpfCapture: Check = ({ host }) => {
  const found = obstacles(host);
  if (found.length === 0) {
    return [
      finding.ok(
        'eBPF capture can work here',
        'Kernel, cgroup v2 and rights are there: `original-dst proxy --capture ebpf` needs no rules and no conntrack. It refuses a cgroup at whose connect(2) another program is attached.',
      ),
    ];
  }
  const [, remedy] = found.find(([, each]) => each !== undefined) ?? [];
  const detail = `In its way: ${found.map(([why]) => why).join('; ')}. Rules do not need any of it.`;
  const title = 'eBPF capture cannot work here';
  return [remedy === undefined ? finding.ok(title, detail) : { ...finding.ok(title, detail), remedy }];
};
