// Do eBPF programs at connect(2) take connections before the rules see them?
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import type { Host } from '../host.ts';

const finding = new Findings('cgroup-bpf');

/** The directory of this process's cgroup in the second hierarchy, to which programs are attached. */
function cgroupDirectory(host: Host): string | undefined {
  const path = /^0::(.*)$/m.exec(host.read('/proc/self/cgroup') ?? '')?.[1];
  // Of mountinfo: … root mountpoint options … - type source superoptions
  const mount = /^\d+ \d+ \S+ (\S+) (\S+) .* - cgroup2 /m.exec(host.read('/proc/self/mountinfo') ?? '');
  if (path === undefined || !mount) return undefined;
  const directory = join(mount[2]!, path);
  // In a container the path may be one of the host, outside of what is mounted here.
  return host.exists(directory) ? directory : mount[2]!;
}

/** How many programs, or undefined where it cannot be asked. */
function connectPrograms(host: Host): number | undefined {
  const directory = cgroupDirectory(host);
  if (directory === undefined) return undefined;
  try {
    const native = host.binding();
    const fd = openSync(directory, 'r');
    try {
      const counts = ([4, 6] as const).map((family) => native.connectPrograms(fd, family));
      return counts.some((count) => count < 0) ? undefined : Math.max(...counts);
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined; // no addon, or no right to the directory
  }
}

/**
 * bpf(2) BPF_PROG_QUERY: programs at connect(2), as the load balancers of Cilium and others are. They rewrite the
 * destination before the first packet exists, so that the rules, conntrack and the proxy see the rewritten one.
 */
export const cgroupBpf: Check = ({ host }) => {
  const count = connectPrograms(host);
  const cilium = host.exists('/sys/fs/bpf/cilium') || host.exists('/sys/class/net/cilium_host');
  if ((count ?? 0) > 0 || cilium) {
    const seen = cilium ? 'Cilium is at work here' : `${count} programs run at connect(2) of this cgroup`;
    return [
      finding.warning(
        'a cgroup-BPF program may rewrite destinations before the rules see them',
        `${seen}. The address of a service is then replaced by that of a backend inside connect(2), and what is recovered is the backend. To see services, keep the load balancer out of the pods' namespaces (Cilium: socketLB.hostNamespaceOnly=true).`,
        'bpftool cgroup tree',
      ),
    ];
  }
  const sure = count === 0;
  return [
    finding.ok(
      sure
        ? 'no program rewrites connections of this cgroup'
        : 'no sign of a program that rewrites connections',
      sure
        ? 'None is attached at connect(2).'
        : 'The kernel tells for certain only with CAP_NET_ADMIN in the initial user namespace and cgroup version 2.',
    ),
  ];
};
