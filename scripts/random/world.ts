// The network: clients, a gateway that intercepts what they send, the far end, and a second gateway whose rules change.
import { execFileSync } from 'node:child_process';
import {
  CHANGING_GATEWAY,
  GATEWAY,
  interceptedPorts,
  LANES,
  LOCAL,
  LISTENERS,
  NETWORKS,
  PORTS,
  type Lane,
  type Listener,
} from './kinds.ts';

/** What the relay servers mark their dials with, so that they are not intercepted. */
export const MARK = 7;

function sh(script: string): void {
  execFileSync('sh', ['-ec', script], { stdio: ['ignore', 'inherit', 'inherit'] });
}

/** Everything is in network namespaces with names; this process is in none of them. */
export function makeWorld(): void {
  sh(`
    mount -t tmpfs tmpfs /run
    mkdir /run/netns
    for name in client gateway far changing changing-client; do
      ip netns add $name
      ip -n $name link set lo up
      # Of link-local addresses too: it holds up the first connections.
      ip netns exec $name sysctl -qw net.ipv6.conf.default.accept_dad=0
    done
  `);
  link('gateway', 'clients', 'client', 'eth0', '10.9', '2001:db8:9');
  link('gateway', 'wan', 'far', 'eth0', '10.8', '2001:db8:8');
  link('changing', 'clients', 'changing-client', 'eth0', '10.7', '2001:db8:7');
  sh(`
    ip -n client route add default via 10.9.0.1
    ip -n client -6 route add default via 2001:db8:9::1
    ip -n changing-client route add default via 10.7.0.1
    ip -n changing-client -6 route add default via 2001:db8:7::1

    ip -n far route add default via 10.8.0.1
    ip -n far -6 route add default via 2001:db8:8::1
    ip -n far route add local 198.18.0.0/16 dev lo
    ip -n far -6 route add local 2001:db8:18::/48 dev lo

    ip -n gateway route add 198.18.0.0/16 via 10.8.0.2
    ip -n gateway -6 route add 2001:db8:18::/48 via 2001:db8:8::2
    ip -n gateway route add local ${NETWORKS.local.v4}.0/24 dev lo
    ip -n gateway -6 route add local ${NETWORKS.local.v6}::/64 dev lo
    ip -n gateway addr add ${LOCAL.v4}/32 dev lo
    ip -n gateway -6 addr add ${LOCAL.v6}/128 dev lo nodad
    ip -n gateway rule add fwmark 1 lookup 100
    ip -n gateway route add local default dev lo table 100
    ip -n gateway -6 rule add fwmark 1 lookup 100
    ip -n gateway -6 route add local default dev lo table 100
    # A packet that lost its entry goes on to the destination, whose RST is one more way to end.
    for name in gateway changing; do
      ip netns exec $name sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    done
    ip netns exec gateway sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close=1
    ip -n changing route add default via 10.7.0.2
    ip -n changing -6 route add default via 2001:db8:7::2
  `);
  for (const [number, lane] of LANES.entries()) {
    if (lane.from === 'gateway') continue;
    const { v4, v6 } = sourceOf(lane, number);
    sh(`ip -n ${lane.from} addr add ${v4}/16 dev eth0
      ip -n ${lane.from} -6 addr add ${v6}/64 dev eth0 nodad`);
  }
  load('gateway', gatewayRules());
  load('changing', UNROUTED);
  replace(CHANGES.redirect);
}

function link(one: string, its: string, other: string, others: string, v4: string, v6: string): void {
  sh(`ip link add ${its} netns ${one} type veth peer name ${others} netns ${other}
    ip -n ${one} addr add ${v4}.0.1/16 dev ${its}
    ip -n ${one} -6 addr add ${v6}::1/64 dev ${its} nodad
    ip -n ${other} addr add ${v4}.0.2/16 dev ${others}
    ip -n ${other} -6 addr add ${v6}::2/64 dev ${others} nodad
    ip -n ${one} link set ${its} up
    ip -n ${other} link set ${others} up`);
}

/** Where a lane's clients have their address. */
export function sourceOf(lane: Lane, number: number): { v4: string; v6: string } {
  if (lane.from === 'gateway') return LOCAL;
  return lane.from === 'client'
    ? { v4: `10.9.1.${number + 1}`, v6: `2001:db8:9::1:${number + 1}` }
    : { v4: `10.7.1.${number + 1}`, v6: `2001:db8:7::1:${number + 1}` };
}

function protocolOf({ make }: Listener): 'tcp' | 'udp' {
  return make === 'createDatagramSocket' ? 'udp' : 'tcp';
}

function ports({ port }: Listener): string {
  return `{ ${interceptedPorts(port).join(', ')} }`;
}

function redirects(listeners: readonly Listener[]): string {
  return listeners
    .flatMap((listener) => {
      const what = `${protocolOf(listener)} dport ${ports(listener)}`;
      return [
        `ip daddr ${NETWORKS.redirect.v4}.0/24 ${what} redirect to :${listener.port}`,
        `ip6 daddr ${NETWORKS.redirect.v6}::/64 ${what} redirect to :${listener.port}`,
        `ip daddr ${NETWORKS.dnat.v4}.0/24 ${what} dnat ip to ${GATEWAY.v4}:${listener.port}`,
      ];
    })
    .join('\n');
}

function tproxies(listeners: readonly Listener[]): string {
  return listeners
    .filter(({ transparent }) => transparent)
    .flatMap((listener) => {
      const what = `${protocolOf(listener)} dport ${ports(listener)}`;
      return [
        `ip daddr ${NETWORKS.tproxy.v4}.0/24 ${what} tproxy ip to :${listener.port} meta mark set 1 accept`,
        `ip daddr ${NETWORKS.untracked.v4}.0/24 ${what} tproxy ip to :${listener.port} meta mark set 1 accept`,
        `ip6 daddr ${NETWORKS.tproxy.v6}::/64 ${what} tproxy ip6 to :${listener.port} meta mark set 1 accept`,
      ];
    })
    .join('\n');
}

function gatewayRules(): string {
  const listeners = LISTENERS.gateway;
  return `table inet captures {
    chain untracked_in {
      type filter hook prerouting priority raw
      ip daddr ${NETWORKS.untracked.v4}.0/24 notrack
      ip daddr ${GATEWAY.v4} tcp dport { ${PORTS.halfUntracked}, ${PORTS.untracked} } notrack
    }
    chain untracked_out {
      type filter hook output priority raw
      ip saddr ${NETWORKS.untracked.v4}.0/24 notrack
      ip saddr ${GATEWAY.v4} tcp sport ${PORTS.untracked} notrack
    }
    chain by_tproxy {
      type filter hook prerouting priority mangle
      iifname != "clients" accept
      ${tproxies(listeners)}
    }
    chain captured {
      ${redirects(listeners)}
    }
    chain incoming {
      type nat hook prerouting priority dstnat
      iifname "clients" jump captured
    }
    chain outgoing {
      type nat hook output priority -100
      meta mark ${MARK} accept
      ip saddr ${LOCAL.v4} jump captured
      ip6 saddr ${LOCAL.v6} jump captured
    }
  }`;
}

/** What no rule intercepts ends here, at once; without conntrack. */
const UNROUTED = `table inet unrouted {
  chain forward {
    type filter hook forward priority 0
    meta l4proto tcp reject with tcp reset
    drop
  }
}`;

/** The states that the second gateway goes through, in any order. */
export const CHANGES = {
  redirect: `chain incoming {
    type nat hook prerouting priority dstnat
    ${redirects(LISTENERS.changing).replaceAll(GATEWAY.v4, CHANGING_GATEWAY.v4)}
  }`,
  'tracked only': `chain in { type filter hook input priority 0; ct state invalid counter; }`,
  'no rules': '',
  'not tracked': `chain in { type filter hook prerouting priority raw; notrack; }
    chain out { type filter hook output priority raw; notrack; }`,
};

/** Nothing begins here. */
const CLOSED = `chain in {
    type filter hook input priority 0
    tcp flags & (syn | ack) == syn reject with tcp reset
    meta l4proto udp drop
  }`;

/**
 * Where nothing is translated any more, the entries of before are left, and SO_ORIGINAL_DST tells of them to whoever comes
 * from the same port: no program can see that they are old. So they have to be deleted before anything begins there.
 * And where translation begins, a datagram that has come before it, and waits, is told from a later one by nothing but
 * an entry of its own: what waits has to be read first.
 */
export async function change(
  to: keyof typeof CHANGES,
  { flush, settle }: Record<'flush' | 'settle', () => Promise<void>>,
): Promise<void> {
  replace(CLOSED);
  note('closed');
  await (to === 'redirect' ? settle : flush)();
  replace(CHANGES[to]);
  note(to);
}

function note(what: string): void {
  changes.push(`${what} at ${(Number(process.hrtime.bigint()) / 1e6).toFixed(2)}`);
  if (changes.length > 100) changes.shift();
}

/** What became of the rules and when (CLOCK_MONOTONIC, ms), as far as a report may need it. */
export const changes: string[] = [];

/** One transaction: the chains of before are gone when these are there. */
function replace(chains: string): void {
  load('changing', `table inet captures {}\ndelete table inet captures\ntable inet captures {\n${chains}\n}`);
}

function load(namespace: string, rules: string): void {
  execFileSync('ip', ['netns', 'exec', namespace, 'nft', '-f', '-'], {
    input: rules,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
}
