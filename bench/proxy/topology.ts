// Three hosts in namespaces of our own: client ── proxy host ── server, the proxy host routing and intercepting.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { cgroupMount } from '../../lib/ebpf/cgroup.ts';

/** Where the client's traffic goes; the proxy's host has the rule that catches it. */
export const SERVER = '10.2.0.2';
/** What the server is called, for those who go by names. */
export const NAME = 'www.bench.example';
/** The proxy host's address on the server's side. */
export const PROXY = '10.2.0.1';
/** The first proxy's; each has a port of its own. */
export const PROXY_PORT = 15001;
/** On the server's host. */
export const SOCKS_PORT = 1080;
/** Where the server demands PROXY protocol headers. */
export const HEADER_PORT = 81;
const MARK = 1;
const TABLE = 100;

/** `ebpf`: the client is a program of the proxy's host, in a cgroup. */
export const MODES = ['redirect', 'tproxy', 'ebpf'] as const;
export type Mode = (typeof MODES)[number];
export const MODE_TITLES: Record<Mode, string> = {
  redirect: 'REDIRECT',
  tproxy: 'TPROXY',
  ebpf: 'eBPF capture',
};

/** Whose programs are captured for the proxy at the port, by the process that began. */
export function cgroupOf(port: number): string {
  return `original-dst-bench-${process.env['BENCH_CGROUP'] ?? process.pid}-${port}`;
}

export function sh(script: string): void {
  execFileSync('sh', ['-ec', script], { stdio: ['ignore', 'ignore', 'inherit'] });
}

/** How connections come to a proxy at present, and to which. */
let present: { mode: Mode; port: number } = { mode: 'redirect', port: PROXY_PORT };

/** The command line that runs `command` on one of the hosts. */
export function on(host: 'client' | 'server', command: string[]): string[] {
  if (host === 'client' && present.mode === 'ebpf') {
    const enter = `echo $$ >${join(cgroupMount(), cgroupOf(present.port))}/cgroup.procs; exec "$@"`;
    return ['sh', '-ec', enter, 'sh', ...command];
  }
  return ['ip', 'netns', 'exec', host, ...command];
}

/** Builds the hosts; the calling process is the proxy's host. */
export function buildHosts(): void {
  sh(`
    mount -t tmpfs tmpfs /run
    mkdir -p /run/netns
    echo '${SERVER} ${NAME}' > /run/hosts
    mount --bind /run/hosts /etc/hosts
    ip link set lo up
    sysctl -qw net.ipv4.ip_forward=1 net.ipv4.ip_local_port_range='1024 65000' net.core.somaxconn=16384
    # The proxies': else a dial of one may have the port that the next is to listen at.
    sysctl -qw net.ipv4.ip_local_reserved_ports=${PROXY_PORT}-${PROXY_PORT + 999}
    for host in client server; do
      ip netns add $host
      ip -n $host link set lo up
      ip netns exec $host sysctl -qw net.ipv4.ip_local_port_range='1024 65000' net.core.somaxconn=16384
    done
    # Who ends first keeps the port for a minute, and with 30,000 kept ones connect(2) takes 0.5 ms to find another.
    ip netns exec client sysctl -qw net.ipv4.tcp_max_tw_buckets=0
    ip link add to-client type veth peer name eth0 netns client
    ip link add to-server type veth peer name eth0 netns server
    ip addr add 10.1.0.1/24 dev to-client
    ip link set to-client up
    ip addr add ${PROXY}/24 dev to-server
    ip link set to-server up
    ip -n client addr add 10.1.0.2/24 dev eth0
    ip -n client link set eth0 up
    ip -n client route add default via 10.1.0.1
    ip -n server addr add ${SERVER}/24 dev eth0
    ip -n server link set eth0 up
    ip -n server route add default via ${PROXY}
    ip rule add fwmark ${MARK} lookup ${TABLE}
    ip route add local default dev lo table ${TABLE}
  `);
}

const cgroups = new Set<string>();

function removeCgroups(): void {
  for (const directory of cgroups) {
    try {
      rmdirSync(directory);
    } catch (error) {
      console.error(error);
    }
  }
}

/** For the mode `ebpf`; removed at the end of this process. */
export function makeCgroup(port: number): void {
  process.env['BENCH_CGROUP'] = String(process.pid);
  if (cgroups.size === 0) process.on('exit', removeCgroups);
  const directory = join(cgroupMount(), cgroupOf(port));
  mkdirSync(directory, { recursive: true });
  cgroups.add(directory);
}

/** Sends the client's connections to ports 80 and 443 to the proxy; in the mode `ebpf` that is done by the proxy. */
export function setRules(mode: Mode, port = PROXY_PORT): void {
  present = { mode, port };
  const chain =
    mode === 'redirect'
      ? `type nat hook prerouting priority dstnat
         iifname to-client tcp dport { 80, 443 } redirect to :${port}`
      : `type filter hook prerouting priority mangle
         iifname to-client tcp dport { 80, 443 } tproxy ip to 127.0.0.1:${port} meta mark set ${MARK} accept`;
  const table = mode === 'ebpf' ? '' : `table ip bench {\n chain c {\n ${chain}\n }\n }\n`;
  execFileSync('nft', ['-f', '-'], { input: `table ip bench\ndelete table ip bench\n${table}` });
  // Not for two minutes: at 15,000 connections a second, each two entries, conntrack's table would be full for most of a
  // run, and the kernel would look for entries to drop. Nobody has loaded conntrack where there was no rule for it yet.
  sh('sysctl -qew net.netfilter.nf_conntrack_tcp_timeout_time_wait=5');
}
