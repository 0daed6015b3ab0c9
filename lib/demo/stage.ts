// The network of the demo: two namespaces and the rules between them.
import { execFileSync } from 'node:child_process';
import { programPath } from '../programs.ts';

/** The ports of the two listeners: Istio's, so that they look familiar. */
export const REDIRECT_PORT = 15001;
export const TPROXY_PORT = 15006;

/** What is at the last part of every server address: `198.51.100.10` serves HTTP, and so on. */
export const HTTP = { host: '10', port: 80 } as const;
export const HTTPS = { host: '20', port: 443 } as const;
export const TCP = { host: '30', port: 9000 } as const;

/** The addresses on the stage, from the blocks that RFC 5737 and RFC 3849 keep for documentation. */
export const ADDRESSES = {
  IPv4: { client: '192.0.2.2', proxy: '192.0.2.1', redirect: '198.51.100.', tproxy: '203.0.113.' },
  IPv6: { client: '2001:db8::2', proxy: '2001:db8::1', redirect: '2001:db8:a::', tproxy: '2001:db8:b::' },
} as const;

/** A directory of the stage's own, in memory and invisible from outside. */
export const SCRATCH = '/run/original-dst';

const IPv4 = ADDRESSES.IPv4;
const IPv6 = ADDRESSES.IPv6;
const HOSTS = [HTTP.host, HTTPS.host, TCP.host];

// A private /run, so that `ip netns add` works without touching the host's.
// nodad: an IPv6 address under duplicate detection cannot be used for a second or two.
const NETWORK = `
mount -t tmpfs tmpfs /run
mkdir /run/netns ${SCRATCH}
ip link set lo up
ip netns add client
ip netns add server
ip link add to-client type veth peer name eth0 netns client
ip link add to-server type veth peer name eth0 netns server

ip addr add ${IPv4.proxy}/24 dev to-client
ip addr add ${IPv6.proxy}/64 dev to-client nodad
ip addr add ${IPv4.redirect}1/24 dev to-server
ip addr add ${IPv4.tproxy}1/24 dev to-server
ip addr add ${IPv6.redirect}1/64 dev to-server nodad
ip addr add ${IPv6.tproxy}1/64 dev to-server nodad
ip link set to-client up
ip link set to-server up

ip -n client addr add ${IPv4.client}/24 dev eth0
ip -n client addr add ${IPv6.client}/64 dev eth0 nodad
ip -n client link set lo up
ip -n client link set eth0 up
ip -n client route add default via ${IPv4.proxy}
ip -n client -6 route add default via ${IPv6.proxy}

${HOSTS.map(
  (host) => `
ip -n server addr add ${IPv4.redirect}${host}/24 dev eth0
ip -n server addr add ${IPv4.tproxy}${host}/24 dev eth0
ip -n server addr add ${IPv6.redirect}${host}/64 dev eth0 nodad
ip -n server addr add ${IPv6.tproxy}${host}/64 dev eth0 nodad`,
).join('\n')}
ip -n server link set lo up
ip -n server link set eth0 up
ip -n server route add default via ${IPv4.redirect}1
ip -n server -6 route add default via ${IPv6.redirect}1

ip rule add fwmark 1 lookup 100
ip route add local default dev lo table 100
ip -6 rule add fwmark 1 lookup 100
ip -6 route add local default dev lo table 100
`;

// `socket transparent 1` is for what the servers send to a client's address that the proxy borrowed: it belongs to
// a socket here, and without the mark it would be sent on to the client, who knows nothing of it.
const RULES = `
table inet demo {
  chain by_redirect {
    type nat hook prerouting priority dstnat
    ip daddr ${IPv4.redirect}0/24 meta l4proto tcp redirect to :${REDIRECT_PORT}
    ip6 daddr ${IPv6.redirect}/64 meta l4proto tcp redirect to :${REDIRECT_PORT}
  }
  chain by_tproxy {
    type filter hook prerouting priority mangle
    iifname to-server meta l4proto tcp socket transparent 1 meta mark set 1 accept
    ip daddr ${IPv4.tproxy}0/24 meta l4proto tcp tproxy ip to :${TPROXY_PORT} meta mark set 1 accept
    ip6 daddr ${IPv6.tproxy}/64 meta l4proto tcp tproxy ip6 to :${TPROXY_PORT} meta mark set 1 accept
  }
}
`;

/**
 * Builds three hosts in the calling process's own network and mount namespace, which becomes the proxy's host:
 * client ── proxy ── server, a cable (veth) each, and the rules that bring the client's traffic to the proxy.
 * It all goes away with the namespace.
 */
export function buildStage(): void {
  const stdio: ['pipe', 'pipe', 'pipe'] = ['pipe', 'pipe', 'pipe'];
  execFileSync('/bin/sh', ['-e'], { input: NETWORK, stdio });
  execFileSync(programPath('nft'), ['-f', '-'], { input: RULES, stdio });
}

/** The command line that runs a command on the client's or the server's host. */
export function on(host: 'client' | 'server', command: string[]): [command: string, args: string[]] {
  return [programPath('nsenter'), [`--net=/run/netns/${host}`, ...command]];
}
