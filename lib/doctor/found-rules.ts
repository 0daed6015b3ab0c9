// The rules of this network namespace that lead connections to a port of this host.
import { hiddenIn, parseIptables } from './found-iptables.ts';
import { parseNftables } from './found-nftables.ts';
import type { Host } from './host.ts';
import type { StepResult } from '../rules/types.ts';

/** A rule of this network namespace that sends connections to a port of this host. */
export interface FoundRule {
  via: 'nftables' | 'iptables';
  families: readonly (4 | 6)[];
  kind: 'redirect' | 'tproxy' | 'dnat';
  /** Undefined where the rule keeps the port, or takes it from a map. */
  port: number | undefined;
  /** The address it sends to, where it names one. */
  address: string | undefined;
  /** The mark that the same rule sets. */
  mark: number | undefined;
  /** How many packets it has matched; undefined where it has no counter. */
  packets: number | undefined;
  /** The hooks (`output`, `prerouting`) of the rule's chain, and of those that jump to it. */
  hooks: readonly string[];
  /** The chain's priority in its hook; undefined for iptables, whose chains are all at one. */
  priority: number | undefined;
  /** The interfaces that it is for, `veth*` for several; none: all. */
  interfaces: readonly string[];
  /** The interfaces that an earlier rule of its chain leaves alone, whatever comes by them. */
  spared: readonly string[];
  /** Does an earlier rule of its chain leave alone what is not for this host? */
  localOnly: boolean;
  /** Where to find it: `inet istio / output`, `nat / OUTPUT`. */
  place: string;
}

/** A rule that knows packets by the cgroup of their sender. */
export interface FoundCgroup {
  /** As listed: iptables shows the path for ever, nft the bare number of a cgroup that is no more. */
  cgroup: string;
  /** The number of the cgroup when the rule was loaded, where its comment tells. */
  loaded: string | undefined;
  place: string;
}

/** What one back-end has. */
export interface Found {
  rules: FoundRule[];
  cgroups: FoundCgroup[];
}

export interface FoundRules extends Found {
  /** False where the kernel did not let us read them. */
  readable: boolean;
  /** Are there tables of nftables that iptables-nft did not make? */
  nativeTables: boolean;
  /** Are there rules of iptables-nft? */
  compatTables: boolean;
  /** What each iptables-save printed. */
  saved: { program: 'iptables' | 'ip6tables'; text: string }[];
  /** The tables of the legacy iptables kernel interface: `nat`, `mangle`. */
  legacyTables: string[];
  /** The tables that an iptables-save leaves out, as nft names them (`ip nat`): a rule of nft's own is in them. */
  hiddenTables: string[];
}

/** The first of some commands that is there and works. */
async function save(host: Host, ...commands: string[]): Promise<string> {
  for (const command of commands) {
    const { status, stdout } = await host.run(command, ['-c']);
    if (status === 0) return stdout;
  }
  return '';
}

/**
 * All rules of this network namespace that intercept, whoever made them; `listed`: `nft -j list ruleset`. Asks the two
 * iptables programs only where there is something of theirs: the legacy one loads kernel modules when it runs.
 */
export async function findRules(host: Host, listed: StepResult): Promise<FoundRules> {
  const legacyTables = ['ip', 'ip6'].flatMap((family) =>
    (host.read(`/proc/net/${family}_tables_names`) ?? '').split('\n').filter((name) => name !== ''),
  );
  const isLegacy = legacyTables.length > 0;
  const nft =
    listed.status === 0
      ? parseNftables(listed.stdout)
      : { rules: [], cgroups: [], native: false, compat: false };
  let { compat } = nft;
  const found: Found[] = [nft];
  const saved: FoundRules['saved'] = [];
  const hiddenTables: string[] = [];
  for (const [family, prefix, tables] of [
    [4, 'iptables', 'ip'],
    [6, 'ip6tables', 'ip6'],
  ] as const) {
    const plain = `${prefix}-save`;
    // Without nft(8) the rules of iptables-nft are not seen; then its own program is asked instead.
    if (nft.compat || listed.status === null) {
      const text = await save(host, `${prefix}-nft-save`, ...(isLegacy ? [] : [plain]));
      compat ||= text.includes(' -A ');
      found.push(parseIptables(text, family));
      hiddenTables.push(...hiddenIn(text).map((table) => `${tables} ${table}`));
      saved.push({ program: prefix, text });
    }
    if (!isLegacy) continue;
    const text = await save(host, `${prefix}-legacy-save`, plain);
    found.push(parseIptables(text, family));
    saved.push({ program: prefix, text });
  }
  const rules = found.flatMap((each) => each.rules);
  return {
    readable: listed.status === 0 || (listed.status === null && rules.length > 0),
    rules,
    cgroups: found.flatMap((each) => each.cgroups),
    nativeTables: nft.native,
    compatTables: compat,
    saved,
    legacyTables: [...new Set(legacyTables)],
    hiddenTables,
  };
}
