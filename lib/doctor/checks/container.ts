// Is this a container, and which rights does it lack?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('container');

/** Docker, Podman and Kubernetes, by the files and variables that they leave in a container. */
export const container: Check = ({ host }) => {
  const podman = host.read('/run/.containerenv');
  const kinds = [
    ...(host.exists('/.dockerenv') ? ['Docker'] : []),
    ...(podman === undefined ? [] : [podman.includes('rootless=1') ? 'rootless Podman' : 'Podman']),
    ...(host.env['KUBERNETES_SERVICE_HOST'] === undefined ? [] : ['Kubernetes']),
  ];
  if (kinds.length === 0) return [];
  const notes = [
    'Modules cannot be loaded from in here: the remedies with modprobe and sysctl are for the host.',
  ];
  if (kinds.includes('rootless Podman')) {
    notes.push(
      'Rules need --cap-add=NET_ADMIN and work on this container’s own network only (not with --network=host).',
    );
  } else if (kinds.includes('Kubernetes')) {
    notes.push('The capability NET_ADMIN belongs into securityContext.capabilities.add.');
  } else {
    notes.push('Rules and TPROXY need `--cap-add NET_ADMIN`.');
  }
  const title = `a container of ${kinds.join(', ')}`;
  if (/^nameserver\s+127\.0\.0\.11\b/m.test(host.read('/etc/resolv.conf') ?? '')) {
    return [
      finding.warning(
        title,
        `${notes.join(' ')} Its DNS server 127.0.0.11 is made of NAT rules in this namespace (chains DOCKER_OUTPUT, DOCKER_POSTROUTING): rules that flush the nat table, or capture port 53 before them, cut off name resolution.`,
      ),
    ];
  }
  return [finding.ok(title, notes.join(' '))];
};
