// Can a network namespace be made here?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('namespaces');

/** Of the initial user namespace: every uid stands for itself. */
const IDENTITY = /^\s*0\s+0\s+4294967295\s*$/;

/** namespaces(7), user_namespaces(7): which network's rules these are, and whose uids. */
export const namespaces: Check = ({ host }) => {
  const uids = (host.read('/proc/self/uid_map') ?? '').trim();
  const initialUser = IDENTITY.test(uids);
  const network = host.link('/proc/self/ns/net') ?? 'net:[?]';
  const first = host.link('/proc/1/ns/net');
  const whose =
    first === undefined
      ? ''
      : first === network
        ? ', the same as of process 1'
        : ', another than of process 1';
  const detail = `Rules, conntrack and sockets below are those of network namespace ${network}${whose}.`;
  if (initialUser) return [finding.ok('initial user namespace', detail)];
  const mapped = uids.split('\n').reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[2] ?? 0), 0);
  const title = 'inside a user namespace (rootless)';
  const limits =
    ' Capabilities count only for network namespaces that this user namespace owns, and nf_conntrack_max is read-only here.';
  if (mapped === 1) {
    return [
      finding.warning(
        title,
        `${detail}${limits} Only one uid is mapped: a proxy cannot be told from its applications by uid, so exempt it by mark or cgroup, or map more uids.`,
      ),
    ];
  }
  return [finding.ok(title, `${detail}${limits} ${mapped} uids are mapped.`)];
};
