// Can eBPF capture work here, in place of rules?
import { join } from 'node:path';
import { type AttachedProgram, attachedPrograms, describePrograms, isInTheWay } from '../../ebpf/attached.ts';
import { cgroupMount } from '../../ebpf/cgroup.ts';
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
    found.push([
      'this is a user namespace, whose rights bpf(2) does not take without a token (attachCapture: `token`)',
    ]);
  return found;
}

/** More are not looked at: the doctor is to be quick. */
const MOST_CGROUPS = 2000;
const CONTROL_FILE = /^(?:cgroup|cpu|cpuset|dmem|hugetlb|io|irq|memory|misc|pids|rdma)\./;

/** The directories of all cgroups that can be seen here, from the top. */
function cgroups(host: Host, mount: string): string[] {
  const found = [mount];
  for (const directory of found) {
    const below = host.list(directory).filter((name) => !CONTROL_FILE.test(name));
    for (const path of below.map((name) => join(directory, name)))
      if (found.length < MOST_CGROUPS && host.exists(join(path, 'cgroup.procs'))) found.push(path);
  }
  return found;
}

/** Who is attached already where a capture would be, and where SO_ORIGINAL_DST is answered. */
function others(host: Host): AttachedProgram[] {
  try {
    const mount = cgroupMount(host.read('/proc/self/mountinfo')!);
    return attachedPrograms(host.binding(), cgroups(host, mount), mount);
  } catch {
    return []; // no addon, or no right to the directories
  }
}

/** Nobody has asked for it: whatever is missing is no problem, and another program is where it is. */
export const ebpfCapture: Check = ({ host }) => {
  const found = obstacles(host);
  if (found.length === 0) {
    const there = others(host);
    const rest = there.filter(({ places }) => !isInTheWay(places));
    const detail = [
      'Kernel, cgroup v2 and rights are there: `original-dst proxy --capture ebpf` needs no rules and no conntrack. It refuses a cgroup at whose connect(2) another program is attached, or above.',
      ...(there.length === 0 ? ['None is.'] : describePrograms(there, host).map((each) => `There: ${each}.`)),
      ...(rest.length === 0
        ? []
        : ['Those at getsockopt alone can answer SO_ORIGINAL_DST in the kernel’s place.']),
    ].join(' ');
    return [
      rest.length === there.length
        ? finding.ok('eBPF capture can work here', detail)
        : {
            ...finding.ok('eBPF capture can work here, but for some cgroups', detail),
            remedy: 'bpftool cgroup tree',
          },
    ];
  }
  const [, remedy] = found.find(([, each]) => each !== undefined) ?? [];
  const detail = `In its way: ${found.map(([why]) => why).join('; ')}. Rules do not need any of it.`;
  const title = 'eBPF capture cannot work here';
  return [remedy === undefined ? finding.ok(title, detail) : { ...finding.ok(title, detail), remedy }];
};
