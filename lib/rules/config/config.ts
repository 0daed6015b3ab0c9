// The configuration that users write.
import type { Endpoint } from '../../address.ts';

export type Family = Endpoint['family'];
export type Protocol = 'tcp' | 'udp';

/**
 * How packets reach the proxy.
 * - `redirect`: destination NAT to the proxy's port. No rights needed in the proxy; the client's address is kept
 *   as the peer, the original destination is in conntrack (SO_ORIGINAL_DST).
 * - `tproxy`: the packet is handed to the proxy's transparent listener unchanged, by a mark and a routing table.
 */
export type Mode = 'redirect' | 'tproxy';

/** A port, or an inclusive range of ports as text: `80`, `'8000-8999'`. */
export type PortRange = number | `${number}-${number}`;

/**
 * Connections of one kind. All fields that are given must hold (and); the entries of one field are alternatives
 * (or). An empty object matches everything.
 */
export interface FlowMatch {
  /** Destination ports. */
  ports?: readonly PortRange[];
  /** Destination addresses: `10.0.0.0/8`, `192.0.2.1`, `2001:db8::/32`. A family without an entry does not match. */
  destinations?: readonly string[];
  /** Source addresses, written like `destinations`. */
  sources?: readonly string[];
  /** Interface names, `eth0` or `veth*`: where the packet leaves (outbound) or came in (inbound, gateway). */
  interfaces?: readonly string[];
}

/** Connections that programs of this host make, of one kind. */
export interface OutboundMatch extends FlowMatch {
  /** The user that the socket is of (its file system user id), numeric. */
  uids?: readonly number[];
  /** The socket's primary group, numeric; supplementary groups do not count. */
  gids?: readonly number[];
}

/** What is captured, and by which port of the proxy. */
export type Captured<Match extends FlowMatch = FlowMatch> = Match & {
  /** The proxy's port for these connections; the first entry that matches decides. Default: the direction's `port`. */
  proxyPort?: number;
};

/** What all three directions have. */
export interface DirectionRules<Match extends FlowMatch = FlowMatch> {
  mode: Mode;
  /** The port that the proxy listens on. Under `redirect`, on all addresses or on those of the interfaces concerned. */
  port: number;
  /** Default `['tcp']`. */
  protocols?: readonly Protocol[];
  /** What is captured: a connection that matches one of these. Default: everything; `[]`: nothing (DNS alone). */
  include?: Captured<Match> | readonly Captured<Match>[];
  /**
   * What is left alone though it is included: a connection that matches one of these. What names ports alone,
   * interfaces alone or owners alone holds before all else, also for DNS and the proxy's own calls to this host.
   * Default: nothing.
   */
  exclude?: Match | readonly Match[];
}

/** What becomes of what is not captured. */
export interface OtherwiseRules {
  /**
   * `pass` (default): it goes on as if there were no rules. `reject`: it is refused at once, TCP with RST, all else but
   * ICMP with ICMP “port unreachable”, whatever `protocols` says; in both of `families`, also where `include` names
   * none of its addresses. What still passes: `exclude` and `exempt`, which hold for every protocol here (name ports 53
   * and 123 there unless DNS and time are captured); answers and connections under way; within this host, unless
   * `loopback` is `capture`; broadcast and multicast. Only what comes from where
   * `include` captures anything is refused: a gateway's `interfaces` and `sources`, outbound's `uids` and `gids`.
   */
  otherwise?: 'pass' | 'reject';
}

/**
 * Connections that programs of this host make (hook OUTPUT). Where every entry of `include` names users or groups,
 * only their DNS queries are captured too.
 */
export interface OutboundRules extends DirectionRules<OutboundMatch>, OtherwiseRules {
  /**
   * Connections between programs of this host, by whatever address of its own: `bypass` (default) leaves them
   * alone, `capture` treats them like any other.
   */
  loopback?: 'bypass' | 'capture';
  /**
   * The proxy's own connections to an address of this host other than `localhost` and ::1 go to the inbound
   * listener, as if they had come from another host: a program that calls the service it belongs to is treated
   * like every other client. Applies to TCP of `exempt.uids`, or of `exempt.gids` if there are no uids; under
   * inbound `tproxy` also to `exempt.gids`, which must then be there. Default: off.
   */
  hairpin?: {
    /**
     * The proxy's port for them; without `inbound` it must be given. Under inbound `tproxy` that of `exempt.uids`
     * alone. Default: `inbound.port`.
     */
    port?: number;
    /** Ports to which the proxy's connections stay its own. */
    exceptPorts?: readonly PortRange[];
  };
}

/** Connections that other hosts make to this one (hook PREROUTING). */
export interface InboundRules extends DirectionRules {
  /**
   * `host` (default): only what is addressed to this host. `any`: whatever comes in, as in a pod, where nothing
   * is forwarded.
   */
  scope?: 'host' | 'any';
  /**
   * The proxy dials programs of this host with the address of its client, from sockets with SO_MARK `mark` (default:
   * the configuration's `mark`): their answers are brought back to it. Under `redirect` the client's port cannot be
   * kept besides, as conntrack would take the two connections for one. Default: false under `redirect`; under
   * `tproxy` answers are always brought back.
   */
  preserveSource?: boolean | { mark: number };
}

/** Connections that other hosts make to other hosts by way of this one (hook PREROUTING). */
export interface GatewayRules extends DirectionRules, OtherwiseRules {
  /**
   * Also switch forwarding on (`net.ipv4.ip_forward`, `net.ipv6.conf.all.forwarding`) while the rules are in
   * place, for what is not captured. Default false: captured connections need no forwarding. A host that has its
   * IPv6 routes from router advertisements loses them when it begins to forward, unless accept_ra is 2.
   */
  forwarding?: boolean;
  /**
   * The proxy dials with the address of its client: the answers, which come by this host, are brought back to it.
   * Under `redirect` the client's port cannot be kept besides. Default: false under `redirect`; under `tproxy` answers
   * are always brought back.
   */
  preserveSource?: boolean;
}

/** DNS queries, UDP and TCP port 53, of the outbound and gateway directions; always by `redirect`. */
export interface DnsRules {
  /** The port, UDP and TCP, of the proxy's resolver. */
  port: number;
  /** Only queries to these resolvers (addresses). Default: all. */
  servers?: readonly string[];
}

/** The proxy's own traffic, which must never be captured. */
export interface ExemptRules {
  /** Numeric user ids. */
  uids?: readonly number[];
  /** Numeric group ids. */
  gids?: readonly number[];
  /** Packet marks (SO_MARK), compared as a whole or, written as `'0x539/0xfff'`, by the bits of a mask. */
  marks?: readonly (number | `${number}/${number}`)[];
  /** cgroup v2 paths below the mount point, `system.slice/proxy.service`; must exist when the rules are loaded. */
  cgroups?: readonly string[];
  /** Loopback sources, by which the proxy dials programs of this host: `127.0.0.6`, `::6`. */
  sources?: readonly string[];
}

/** Which connections are to be intercepted, and how. */
export interface RulesConfig {
  /** 1 to 15 of `a-z`, `0-9`, `-`: names the tables and chains. Default `default`. */
  name?: string;
  /** Default both. */
  families?: readonly Family[];
  outbound?: OutboundRules;
  inbound?: InboundRules;
  gateway?: GatewayRules;
  dns?: DnsRules;
  exempt?: ExemptRules;
  /**
   * Drop what conntrack calls INVALID. Without it a segment outside the TCP window is not translated back, and
   * the client's host answers it with RST. Default false.
   */
  dropInvalid?: boolean;
  /**
   * The IPv4 addresses that programs mean by `localhost`, a part of 127.0.0.0/8 with 127.0.0.1 in it: calls to them are
   * no hairpin, and inbound `tproxy` leaves them alone. Default `127.0.0.1`; for IPv6 always ::1.
   */
  localhost?: string;
  /**
   * Mark of packets that are routed to this host (tproxy, preserveSource); the two marks above it mean “the proxy's own call to
   * this host” (mark + 1) and “captured connection” (mark + 2). Default 1337.
   */
  mark?: number;
  /** Number of the routing table that routes everything to this host (tproxy, preserveSource). Default 133. */
  table?: number;
  /** The value of the environment variable SSH_CONNECTION; a plan that would capture new connections like it is refused. */
  sshConnection?: string;
}
