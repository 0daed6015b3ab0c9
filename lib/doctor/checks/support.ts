// Can this kernel do NAT and TPROXY?
import type { Check, Context } from '../context.ts';
import { type Finding, Findings } from '../finding.ts';
import type { Host } from '../host.ts';
import { runIn } from '../scratch.ts';
import { sysctl } from '../sysctl.ts';

type Family = 4 | 6;

interface Kind {
  /** The findings are `<id>-ipv4` and `<id>-ipv6`. */
  id: string;
  name: string;
  /** The inside of a chain of nftables with a rule of this kind. */
  chain: string;
  /** The same for iptables. */
  iptables: string;
  modules: (family: Family) => string;
}

const REDIRECT: Kind = {
  id: 'nat',
  name: 'REDIRECT',
  chain: `
    type nat hook output priority -100
    tcp dport 80 redirect to :15001`,
  iptables: '-t nat -A OUTPUT -p tcp --dport 80 -j REDIRECT --to-ports 15001',
  modules: () => 'nft_chain_nat nft_redir',
};

const TPROXY: Kind = {
  id: 'tproxy',
  name: 'TPROXY',
  chain: `
    type filter hook prerouting priority -150
    meta l4proto tcp tproxy to :15006 meta mark set 1`,
  iptables: '-t mangle -A PREROUTING -p tcp -j TPROXY --on-port 15006 --tproxy-mark 1',
  modules: (family) => `nft_tproxy nf_tproxy_ipv${family}`,
};

/** The settings that forbid user and network namespaces; a kernel has those of its own distribution. */
const FORBIDDING = [
  { name: 'kernel.unprivileged_userns_clone', forbidden: 0, allowed: 1 },
  { name: 'kernel.apparmor_restrict_unprivileged_userns', forbidden: 1, allowed: 0 },
  { name: 'user.max_user_namespaces', forbidden: 0, allowed: 10_000 },
  { name: 'user.max_net_namespaces', forbidden: 0, allowed: 10_000 },
];

/** Undefined where no setting forbids them: then a sandbox does. */
function allowNamespaces(host: Host): string | undefined {
  const set = FORBIDDING.filter(({ name, forbidden }) => sysctl(host, name) === forbidden);
  if (set.length === 0) return undefined;
  return `sysctl -w ${set.map(({ name, allowed }) => `${name}=${allowed}`).join(' ')}`;
}

/** Loads a rule in a network namespace of its own: what the kernel takes there, it takes here. */
async function tryRule(context: Context, kind: Kind, family: Family): Promise<Finding> {
  const finding = new Findings(`${kind.id}-ipv${family}`);
  const what = `${kind.name} for IPv${family}`;
  const scratch = await context.scratch();
  if ('refused' in scratch) {
    return finding.warning(
      `${what} was not tried`,
      `No scratch namespace could be made: ${scratch.refused}. Nothing is tried in the namespace in use.`,
      allowNamespaces(context.host),
    );
  }
  const { host } = context;
  const table = `table ${family === 4 ? 'ip' : 'ip6'} trial {\n chain trial {${kind.chain}\n }\n}\n`;
  const nft = await runIn(host, scratch.prefix, ['nft', '-f', '-'], table);
  // The lock of the legacy program is a file of the host's root, whom the scratch namespace does not have.
  const iptables = await runIn(host, scratch.prefix, [
    'env',
    'XTABLES_LOCKFILE=/dev/null',
    family === 4 ? 'iptables' : 'ip6tables',
    ...kind.iptables.split(' '),
  ]);
  const works = [...(nft.status === 0 ? ['nftables'] : []), ...(iptables.status === 0 ? ['iptables'] : [])];
  const why = (stderr: string) => stderr.trim().split('\n')[0];
  const refusals = [
    ...(nft.status === 0 ? [] : [`nftables: ${why(nft.stderr)}.`]),
    ...(iptables.status === 0 ? [] : [`iptables: ${why(iptables.stderr)}.`]),
  ].join(' ');
  if (works.length === 0) {
    return finding.problem(`${what} does not work`, refusals, `modprobe -a ${kind.modules(family)}`);
  }
  return finding.ok(
    `${what} works with ${works.join(' and ')}`,
    `A rule was loaded in a scratch namespace.${refusals === '' ? '' : ` ${refusals}`}`,
  );
}

function supportOf(kind: Kind): Check {
  return async (context) => [await tryRule(context, kind, 4), await tryRule(context, kind, 6)];
}

/** netfilter's nat chains and the redirect expression or REDIRECT target. */
export const natSupport = supportOf(REDIRECT);
/** The tproxy expression or TPROXY target. */
export const tproxySupport = supportOf(TPROXY);
