// Whether a bridge keeps TPROXY from working. With br_netfilter a bridge runs PREROUTING itself, and the network layer
// not a second time: the socket that TPROXY chose is dropped between the two (skb_orphan in ip_rcv), and what was
// captured is refused. No rule can help. NAT is not concerned: its verdict is kept with the connection.
import { codedError } from '../../errors.ts';
import type { Family } from '../config/config.ts';
import type { Difference, Rule, RulePlan, RunStep } from '../types.ts';
import { stepError } from './run.ts';

/** net/bridge/nf_call… of the namespace, and the same of one bridge: either is enough. */
const SWITCHES: Record<Family, { sysctl: string; ofBridge: 'nf_call_iptables' | 'nf_call_ip6tables' }> = {
  IPv4: { sysctl: 'net/bridge/bridge-nf-call-iptables', ofBridge: 'nf_call_iptables' },
  IPv6: { sysctl: 'net/bridge/bridge-nf-call-ip6tables', ofBridge: 'nf_call_ip6tables' },
};

const WHY = 'see what is installed';

export interface Bridge {
  ifname: string;
  linkinfo: { info_data: Record<'nf_call_iptables' | 'nf_call_ip6tables', number> };
}

/** rtnetlink RTM_GETLINK: the bridges of this network namespace. @throws where ip(8) does not tell */
export async function listBridges(run: RunStep): Promise<Bridge[]> {
  const step = { why: WHY, command: ['ip', '-details', '-json', 'link', 'show', 'type', 'bridge'] } as const;
  const listed = await run(step);
  if (listed.status !== 0) throw stepError(step, listed);
  return JSON.parse(listed.stdout) as Bridge[];
}

/** Is an interface one of those that a rule names? */
export function named(patterns: readonly string[] | undefined, name: string): boolean {
  return (patterns ?? ['*']).some((pattern) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : pattern === name,
  );
}

/** Does it leave alone all that the other one captures from that interface? */
function leavesAlone({ when, action }: Rule, name: string, protocol: string | undefined): boolean {
  const { inInterfaces, protocol: own = protocol, ...more } = when;
  return (
    action.do === 'return' && own === protocol && Object.keys(more).length === 0 && named(inInterfaces, name)
  );
}

/** Is there a packet from that interface which the plan hands to a listener? */
function handsOver(rules: readonly Rule[], name: string): boolean {
  return rules.some(
    ({ when, action }, i) =>
      action.do === 'tproxy' &&
      named(when.inInterfaces, name) &&
      !rules.slice(0, i).some((earlier) => leavesAlone(earlier, name, when.protocol)),
  );
}

/** A bridge that runs netfilter for its packets itself. */
export interface FilteredBridge {
  /** What is set. */
  difference: Difference;
  /** The command that switches it off. */
  remedy: string;
}

/** The first of some bridges that runs netfilter for a family's packets itself. */
export async function filteredBridge(
  family: Family,
  bridges: readonly Bridge[],
  run: RunStep,
): Promise<FilteredBridge | undefined> {
  const [first] = bridges;
  if (first === undefined) return undefined;
  const { sysctl, ofBridge } = SWITCHES[family];
  // A kernel without br_netfilter has no such setting.
  const { stdout } = await run({ why: WHY, command: ['cat', `/proc/sys/${sysctl}`] });
  if (stdout.trim() === '1') {
    const where = `/proc/sys/${sysctl}, for the bridge ${first.ifname}`;
    return { difference: { where, expected: '0', found: '1' }, remedy: `sysctl -w ${sysctl}=0` };
  }
  const alone = bridges.find(({ linkinfo }) => linkinfo.info_data[ofBridge] === 1);
  if (alone === undefined) return undefined;
  const where = `${ofBridge} of the bridge ${alone.ifname}`;
  return {
    difference: { where, expected: '0', found: '1' },
    remedy: `ip link set dev ${alone.ifname} type bridge ${ofBridge} 0`,
  };
}

/** The first bridge in the way of the plan, as what is set and should not be. */
export async function bridgeInTheWay(plan: RulePlan, run: RunStep): Promise<Difference | undefined> {
  const chains = (family: Family) =>
    (plan.chains[family] ?? []).filter(({ rules }) => rules.some(({ action }) => action.do === 'tproxy'));
  if (chains('IPv4').length + chains('IPv6').length === 0) return undefined;
  const bridges = await listBridges(run);
  for (const family of ['IPv4', 'IPv6'] as const) {
    const concerned = bridges.filter(({ ifname }) =>
      chains(family).some(({ rules }) => handsOver(rules, ifname)),
    );
    const found = await filteredBridge(family, concerned, run);
    if (found) return found.difference;
  }
  return undefined;
}

/** @throws `ERR_RULES_BRIDGE` */
export async function refuseBridges(plan: RulePlan, run: RunStep): Promise<void> {
  const found = await bridgeInTheWay(plan, run);
  if (found === undefined) return;
  throw codedError(
    'ERR_RULES_BRIDGE',
    `tproxy gets nothing from a bridge whose packets netfilter sees first: ${found.where} is ${found.found}`,
    {
      hint: 'use redirect, or name other interfaces, or exclude the bridge by { interfaces: […] }, or switch that setting off, if nothing (Docker, Kubernetes) relies on it',
    },
  );
}
