// What a plan consists of.
import type { Family, Protocol } from './config/config.ts';

/** `local`: an address of this host; `anycast`: one that it shares with others (IPv6). */
export type AddressType = 'local' | 'broadcast' | 'anycast';

/** What a packet must be for a rule to apply to it: every field that is there must hold. */
export interface Condition {
  /** `icmp`: ICMPv6 in IPv6. */
  protocol?: Protocol | 'icmp';
  inInterfaces?: readonly string[];
  outInterfaces?: readonly string[];
  /** Prefixes, sorted, none touching another. */
  sources?: readonly string[];
  destinations?: readonly string[];
  notDestination?: string;
  /** Destination ports, `80` or `8000-8999`, sorted, none touching another. */
  ports?: readonly string[];
  notPorts?: readonly string[];
  sourcePort?: number;
  /** Is it a TCP connection's first packet: SYN, and neither ACK nor FIN nor RST? */
  syn?: boolean;
  /** The destination is of one of these kinds, as the routing tables know it. */
  addressTypes?: readonly AddressType[];
  notAddressType?: AddressType;
  uid?: number;
  gid?: number;
  cgroup?: string;
  mark?: number;
  /** The bits of the mark that are compared; default: all. */
  markMask?: number;
  notMark?: number;
  connmark?: number;
  notConnmark?: number;
  /** `known`: established or related. `not new`: everything but a connection's first packets. */
  state?: 'invalid' | 'known' | 'not new';
  /** Somebody's NAT has changed the destination of the connection. */
  translated?: true;
  /** The packet goes the other way than the connection's first. */
  reply?: true;
  /** A transparent socket of this host has this connection. */
  transparentSocket?: true;
}

/** What happens to the packet. Only `mark`, `connmark`, `save` and `zone` go on with the next rule. */
export type Action =
  | { do: 'return' | 'drop' }
  /** Answer for the destination: with TCP's RST, or with ICMP “port unreachable”. */
  | { do: 'reject'; with: 'reset' | 'unreachable' }
  | { do: 'redirect'; port: number }
  | { do: 'tproxy'; port: number; mark: number }
  /** Mark the packet and leave the hook's chain. */
  | { do: 'deliver'; mark: number }
  | { do: 'mark' | 'connmark'; mark: number }
  /** Copy the packet's mark to the connection (`save`) or back (`restore`). */
  | { do: 'save' | 'restore' }
  /** Look the packet up in this conntrack zone. */
  | { do: 'zone'; zone: number };

export interface Rule {
  when: Condition;
  action: Action;
  /** Why the rule is there; at least two words, at most 60 characters. It becomes the rule's comment. */
  why: string;
}

/** What the chains of a plan may be called. iptables has room for 7 characters beside the name of the plan. */
export const CHAIN_IDS = [
  'in',
  'out',
  'gw',
  'loop',
  'answer',
  'invalid',
  'zone-i',
  'zone-o',
  'rej-out',
  'rej-fwd',
] as const;

export type ChainId = (typeof CHAIN_IDS)[number];

/** Rules that one hook runs through, in this order, until one of them decides. */
export interface Chain {
  /** Unique within its table. */
  id: ChainId;
  table: 'raw' | 'mangle' | 'nat' | 'filter';
  hook: 'PREROUTING' | 'OUTPUT' | 'FORWARD';
  rules: readonly Rule[];
}

/** Packets with this mark are for this host: `ip rule add fwmark …` and `ip route add local default dev lo table …`. */
export interface MarkRoute {
  family: Family;
  mark: number;
  table: number;
}

export interface Sysctl {
  /** `net/ipv4/ip_forward`, as below /proc/sys. */
  key: string;
  value: string;
}

/** All that a configuration comes to. A plain value: it can be compared, printed and stored as JSON. */
export interface RulePlan {
  name: string;
  /** In the order in which the packets meet them. A family that the plan does not touch is absent. */
  chains: Readonly<Partial<Record<Family, readonly Chain[]>>>;
  routes: readonly MarkRoute[];
  sysctls: readonly Sysctl[];
}

export type Backend = 'nftables' | 'iptables';

/** One command of an installation. */
export interface Step {
  /** Why it is run. */
  why: string;
  command: readonly [program: string, ...args: string[]];
  /** What it reads from standard input. */
  stdin?: string;
}

/** What a command did. */
export interface StepResult {
  /** Its exit status; null: the program does not exist. */
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a command. A command that fails is a result, not an exception. */
export type RunStep = (step: Step) => Promise<StepResult>;

/** The first thing that is not as the plan says. */
export interface Difference {
  /** Where: `nft table ip original-dst-default, chain nat-out, rule 3`, `ip -4 rule`, … */
  where: string;
  /** What the plan says; undefined: nothing should be there. */
  expected: string | undefined;
  /** What is there; undefined: nothing. */
  found: string | undefined;
}
