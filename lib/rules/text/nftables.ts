// A plan as nftables text, and back.
import type { Family } from '../config/config.ts';
import { formatAddresses, mergeRanges, parseCidr } from '../config/ranges.ts';
import type { Action, Chain, Condition, Rule, RulePlan } from '../types.ts';

/** The chains of one table as nft lists them: a line each, without indentation. */
export type NftLines = readonly string[];

/** nft's name of the tables for a family. */
export const NFT_FAMILY: Record<Family, 'ip' | 'ip6'> = { IPv4: 'ip', IPv6: 'ip6' };

/** The priorities of iptables' tables. */
const IPTABLES_PRIORITY: Record<Chain['table'], number> = { raw: -300, mangle: -150, nat: -100, filter: 0 };

/**
 * Before iptables' table of that kind, as in the iptables back-end, where the plan's rules are put at the top. A
 * number for each chain: of two with the same one the kernel runs the chain first that was made last.
 */
function priority(chain: Chain, all: readonly Chain[]): number {
  const same = all.filter(({ table, hook }) => table === chain.table && hook === chain.hook);
  return IPTABLES_PRIORITY[chain.table] - same.length + same.indexOf(chain);
}

/** The table of a plan, `original-dst-NAME`, one in each family. */
export function nftTable(name: string): string {
  return `original-dst-${name}`;
}

function oneOrSet(values: readonly string[]): string {
  return values.length === 1 ? values[0]! : `{ ${values.join(', ')} }`;
}

const hex = (mark: number): string => `0x${mark.toString(16).padStart(8, '0')}`;

function addresses(prefixes: readonly string[], family: Family): string {
  const ranges = mergeRanges(
    prefixes.map((prefix) => parseCidr('plan', prefix)),
    () => undefined,
  );
  return oneOrSet(ranges.map((range) => formatAddresses(range, family)));
}

/** As the first and the latest versions of nft write it. */
const SYN = 'tcp flags & (fin | syn | rst | ack) == syn';
const NOT_SYN = SYN.replace('==', '!=');
/** As nft 0.9.9 to 1.0 list them. */
const SYN_SHORT = 'tcp flags syn / fin,syn,rst,ack';
const NOT_SYN_SHORT = SYN_SHORT.replace('flags', 'flags !=');

/** IP's number for it, by name. */
export const ICMP: Record<Family, string> = { IPv4: 'icmp', IPv6: 'ipv6-icmp' };

/** “Port unreachable” where versions of nft tell it: others leave out what is their default. */
const UNREACHABLE = /\breject with icmp(?:v6)?(?: type)? port-unreachable\b/;

const STATES = { invalid: 'invalid', known: 'established,related', 'not new': '!= new' };

/** In the order and the words of nft's own listing: verify compares the two line by line. */
function matches(when: Condition, family: Family): string[] {
  const ip = NFT_FAMILY[family];
  const { protocol = '', ports, notPorts, sourcePort, syn } = when;
  const hasHeader = ports || notPorts || sourcePort !== undefined || syn !== undefined;
  const words: (string | false | undefined)[] = [
    when.inInterfaces && `iifname ${oneOrSet(when.inInterfaces.map((name) => `"${name}"`))}`,
    when.outInterfaces && `oifname ${oneOrSet(when.outInterfaces.map((name) => `"${name}"`))}`,
    when.sources && `${ip} saddr ${addresses(when.sources, family)}`,
    when.destinations && `${ip} daddr ${addresses(when.destinations, family)}`,
    when.notDestination && `${ip} daddr != ${addresses([when.notDestination], family)}`,
    protocol !== '' && !hasHeader && `meta l4proto ${protocol === 'icmp' ? ICMP[family] : protocol}`,
    sourcePort !== undefined && `${protocol} sport ${sourcePort}`,
    ports && `${protocol} dport ${oneOrSet(ports)}`,
    notPorts && `${protocol} dport != ${oneOrSet(notPorts)}`,
    syn !== undefined && (syn ? SYN : NOT_SYN),
    when.addressTypes && `fib daddr type ${oneOrSet(when.addressTypes)}`,
    when.notAddressType && `fib daddr type != ${when.notAddressType}`,
    when.uid !== undefined && `meta skuid ${when.uid}`,
    when.gid !== undefined && `meta skgid ${when.gid}`,
    when.cgroup !== undefined && `socket cgroupv2 level ${when.cgroup.split('/').length} "${when.cgroup}"`,
    when.mark !== undefined &&
      (when.markMask === undefined
        ? `meta mark ${hex(when.mark)}`
        : `meta mark & ${hex(when.markMask)} == ${hex(when.mark)}`),
    when.notMark !== undefined && `meta mark != ${hex(when.notMark)}`,
    when.state && `ct state ${STATES[when.state]}`,
    when.translated && 'ct status dnat',
    when.connmark !== undefined && `ct mark ${hex(when.connmark)}`,
    when.notConnmark !== undefined && `ct mark != ${hex(when.notConnmark)}`,
    when.reply && 'ct direction reply',
    // Like xt_socket, pass over sockets that listen on all addresses: those would claim forwarded packets.
    when.transparentSocket && 'socket wildcard 0 socket transparent 1',
  ];
  return words.filter((word) => typeof word === 'string');
}

function statement(action: Action): string {
  switch (action.do) {
    case 'return':
    case 'drop':
      return action.do;
    case 'reject':
      return action.with === 'reset' ? 'counter reject with tcp reset' : 'counter reject';
    case 'redirect':
      return `counter redirect to :${action.port}`;
    case 'tproxy':
      return `counter tproxy to :${action.port} meta mark set ${hex(action.mark)} accept`;
    case 'deliver':
      return `meta mark set ${hex(action.mark)} return`;
    case 'mark':
      return `meta mark set ${hex(action.mark)}`;
    case 'connmark':
      return `ct mark set ${hex(action.mark)}`;
    case 'save':
      return 'ct mark set meta mark';
    case 'restore':
      return 'meta mark set ct mark';
    case 'zone':
      return `ct zone set ${action.zone}`;
  }
}

function ruleLines({ when, action, why }: Rule, family: Family): string[] {
  const line = [...matches(when, family), statement(action), `comment "${why}"`].join(' ');
  if (action.do !== 'tproxy') return [line];
  // Without a listener nft's tproxy lets the packet pass, to whatever listens at its destination; iptables' drops it.
  return [line, [...matches(when, family), 'drop', 'comment "no listener"'].join(' ')];
}

/** The chains of one family as nft will list them. */
export function nftLines(chains: readonly Chain[], family: Family): NftLines {
  return chains.flatMap((chain) => {
    const { id, table, hook, rules } = chain;
    // Only this type looks up the route again when the mark changes.
    const type = table === 'nat' ? 'nat' : table === 'mangle' && hook === 'OUTPUT' ? 'route' : 'filter';
    return [
      `chain ${table}-${id} {`,
      `type ${type} hook ${hook.toLowerCase()} priority ${priority(chain, chains)}; policy accept;`,
      ...rules.flatMap((rule) => ruleLines(rule, family)),
      '}',
    ];
  });
}

/** Lines that replace a table whole, in one transaction. */
export function nftReplace(name: string, family: Family, lines: NftLines): string {
  const table = `table ${NFT_FAMILY[family]} ${nftTable(name)}`;
  const body = lines.map((line) => `${line.endsWith('{') || line === '}' ? '\t' : '\t\t'}${line}\n`).join('');
  // Declared first: deleting a table that does not exist is an error.
  return `${table}\ndelete ${table}\n${table} {\n${body}}\n`;
}

/** Reads `nft list table`. */
export function parseNftTable(listing: string): NftLines {
  const lines = listing
    .split('\n')
    .map((line) =>
      line.trim().replace(SYN_SHORT, SYN).replace(NOT_SYN_SHORT, NOT_SYN).replace(UNREACHABLE, 'reject'),
    );
  return lines.filter((line) => line !== '').slice(1, -1);
}

/**
 * The plan as text for `nft -f`: one transaction, which replaces the plan's tables (`ip` and `ip6
 * original-dst-NAME`) and touches no other.
 */
export function toNftables(plan: RulePlan): string {
  return Object.entries(plan.chains)
    .map(([family, chains]) => nftReplace(plan.name, family as Family, nftLines(chains, family as Family)))
    .join('');
}
