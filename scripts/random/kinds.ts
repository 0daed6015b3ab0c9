// The kinds of connections and datagrams, the listeners that they come to, and the clients that make them.
import type { KnownDst } from '../../lib/index.ts';

export interface Kind {
  name: string;
  protocol: 'tcp' | 'udp';
  /** What is to be recovered. The destination itself is in the token. */
  found: KnownDst['kind'];
  /** Nothing but `unknown` can be said where conntrack is at work and was told to leave these alone. */
  untracked?: boolean;
  /**
   * After NAT it can have the very addresses of a direct connection that conntrack knows nothing of, and so does not keep it
   * apart from: late segments of the one come to the other's socket.
   */
  besideUntracked?: boolean;
}

export interface Listener {
  port: number;
  host: string;
  make: 'createServer' | 'createRelayServer' | 'createDatagramSocket';
  transparent?: boolean;
}

/** Where the clients of a lane go: some addresses from `address` on, at the listener's own port or intercepted ones. */
export interface Route {
  kind: number;
  family: 4 | 6;
  address: string;
  count: number;
  ports: readonly [number, number];
}

/** One client program: all of its routes share its few source ports. */
export interface Lane {
  name: string;
  protocol: Kind['protocol'];
  /** Network namespaces, as `ip netns` names them: the clients', the proxy's. */
  from: 'client' | 'gateway' | 'changing-client';
  proxy: 'gateway' | 'changing';
  routes: Route[];
  /** Of all connections, relative to the other lanes. */
  share: number;
}

/** Last bytes of addresses: all; those that the policy of relay servers never allows; those that it allows at times. */
export const ADDRESSES = { from: 1, count: 60 };
export const FORBIDDEN = { from: 49, to: 54 };
export const CHANGING = { from: 55, to: 60 };

/** How long a client waits for an answer before it resets. */
export const CLIENT_PATIENCE_MS = 2500;

export const GATEWAY = { v4: '10.9.0.1', v6: '2001:db8:9::1' };
export const LOCAL = { v4: '10.4.0.1', v6: '2001:db8:4::1' };
export const CHANGING_GATEWAY = { v4: '10.7.0.1', v6: '2001:db8:7::1' };

/** Networks that nobody has, each intercepted in another way. */
export const NETWORKS = {
  redirect: { v4: '198.18.0', v6: '2001:db8:18:0' },
  dnat: { v4: '198.18.1', v6: '2001:db8:18:1' },
  tproxy: { v4: '198.18.2', v6: '2001:db8:18:2' },
  untracked: { v4: '198.18.3', v6: '2001:db8:18:3' },
  /** Routed to the gateway as if they were its own (AnyIP). */
  local: { v4: '198.18.4', v6: '2001:db8:18:4' },
};

/** A listener's port to the two ports whose connections come to it: one of them is the same, elsewhere. */
export function interceptedPorts(port: number): readonly [number, number] {
  return [port - 7000, port];
}

export const PORTS = {
  v4: 15001,
  dual: 15002,
  transparentV4: 15003,
  transparentDual: 15004,
  relay: 15005,
  transparentRelay: 15006,
  halfUntracked: 15007,
  untracked: 15008,
  changing: 15009,
  changingRelay: 15010,
  datagrams: 15011,
  transparentDatagrams: 15012,
  datagramsV4: 15013,
};

export const LISTENERS: Record<Lane['proxy'], readonly Listener[]> = {
  gateway: [
    { port: PORTS.v4, host: '0.0.0.0', make: 'createServer' },
    { port: PORTS.dual, host: '::', make: 'createServer' },
    { port: PORTS.transparentV4, host: '0.0.0.0', make: 'createServer', transparent: true },
    { port: PORTS.transparentDual, host: '::', make: 'createServer', transparent: true },
    { port: PORTS.relay, host: '::', make: 'createRelayServer' },
    { port: PORTS.transparentRelay, host: '::', make: 'createRelayServer', transparent: true },
    { port: PORTS.halfUntracked, host: '0.0.0.0', make: 'createServer' },
    { port: PORTS.untracked, host: GATEWAY.v4, make: 'createServer' },
    { port: PORTS.datagrams, host: '::', make: 'createDatagramSocket' },
    { port: PORTS.transparentDatagrams, host: '::', make: 'createDatagramSocket', transparent: true },
    { port: PORTS.datagramsV4, host: '0.0.0.0', make: 'createDatagramSocket' },
  ],
  changing: [
    { port: PORTS.changing, host: '::', make: 'createServer' },
    { port: PORTS.changingRelay, host: '::', make: 'createRelayServer' },
    { port: PORTS.datagrams, host: '::', make: 'createDatagramSocket' },
  ],
};

export const KINDS: Kind[] = [];

function kind(name: string, found: Kind['found'], more: Partial<Kind> = {}): number {
  return KINDS.push({ name, found, protocol: name.startsWith('udp') ? 'udp' : 'tcp', ...more }) - 1;
}

function intercepted(
  name: string,
  way: keyof typeof NETWORKS,
  family: 4 | 6,
  port: number,
  more?: Partial<Kind>,
): Route {
  const found = way === 'redirect' || way === 'dnat' ? 'redirect' : 'tproxy';
  const network = NETWORKS[way];
  return {
    kind: kind(name, found, more),
    family,
    address: family === 4 ? `${network.v4}.${ADDRESSES.from}` : `${network.v6}::${ADDRESSES.from}`,
    count: ADDRESSES.count,
    ports: interceptedPorts(port),
  };
}

/** Delivered without any rule, at the listener's own port. */
function anyIp(name: string, family: 4 | 6, port: number): Route {
  return { ...intercepted(name, 'local', family, port), ports: [port, port] };
}

function direct(name: string, address: string, port: number, more?: Partial<Kind>): Route {
  const family = address.includes(':') ? 6 : 4;
  return { kind: kind(name, 'direct', more), family, address, count: 1, ports: [port, port] };
}

export const LANES: readonly Lane[] = [
  {
    name: 'an IPv4 listener',
    protocol: 'tcp',
    from: 'client',
    proxy: 'gateway',
    share: 4,
    routes: [
      intercepted('redirect, IPv4 listener', 'redirect', 4, PORTS.v4),
      intercepted('DNAT, IPv4 listener', 'dnat', 4, PORTS.v4),
      direct('direct, IPv4 listener', GATEWAY.v4, PORTS.v4),
    ],
  },
  {
    name: 'a dual-stack listener',
    protocol: 'tcp',
    from: 'client',
    proxy: 'gateway',
    share: 4,
    routes: [
      intercepted('redirect, v4-mapped', 'redirect', 4, PORTS.dual),
      intercepted('redirect, IPv6', 'redirect', 6, PORTS.dual),
      direct('direct, v4-mapped', GATEWAY.v4, PORTS.dual),
      direct('direct, IPv6', GATEWAY.v6, PORTS.dual),
      anyIp('AnyIP, v4-mapped', 4, PORTS.dual),
      anyIp('AnyIP, IPv6', 6, PORTS.dual),
    ],
  },
  {
    name: 'a transparent IPv4 listener',
    protocol: 'tcp',
    from: 'client',
    proxy: 'gateway',
    share: 3,
    routes: [
      intercepted('TPROXY, IPv4 listener', 'tproxy', 4, PORTS.transparentV4),
      intercepted('TPROXY and NOTRACK, IPv4', 'untracked', 4, PORTS.transparentV4),
      direct('direct, transparent listener', GATEWAY.v4, PORTS.transparentV4),
    ],
  },
  {
    name: 'a transparent dual-stack listener',
    protocol: 'tcp',
    from: 'client',
    proxy: 'gateway',
    share: 3,
    routes: [
      intercepted('TPROXY, v4-mapped', 'tproxy', 4, PORTS.transparentDual),
      intercepted('TPROXY, IPv6', 'tproxy', 6, PORTS.transparentDual),
      intercepted('redirect, transparent listener', 'redirect', 4, PORTS.transparentDual),
    ],
  },
  {
    name: 'a relay server',
    protocol: 'tcp',
    from: 'client',
    proxy: 'gateway',
    share: 4,
    routes: [
      intercepted('relay, redirect, v4-mapped', 'redirect', 4, PORTS.relay),
      intercepted('relay, redirect, IPv6', 'redirect', 6, PORTS.relay),
      direct('relay server, direct', GATEWAY.v4, PORTS.relay),
    ],
  },
  {
    name: 'a transparent relay server',
    protocol: 'tcp',
    from: 'client',
    proxy: 'gateway',
    share: 3,
    routes: [
      intercepted('relay, TPROXY, v4-mapped', 'tproxy', 4, PORTS.transparentRelay),
      intercepted('relay, TPROXY, IPv6', 'tproxy', 6, PORTS.transparentRelay),
    ],
  },
  {
    name: 'NOTRACK for what is direct',
    protocol: 'tcp',
    from: 'client',
    proxy: 'gateway',
    share: 2,
    routes: [
      intercepted('redirect beside NOTRACK', 'redirect', 4, PORTS.halfUntracked, { besideUntracked: true }),
      direct('direct, NOTRACK one way', GATEWAY.v4, PORTS.halfUntracked, { untracked: true }),
      direct('direct, NOTRACK both ways', GATEWAY.v4, PORTS.untracked, { untracked: true }),
    ],
  },
  {
    name: 'clients on the proxy’s host',
    protocol: 'tcp',
    from: 'gateway',
    proxy: 'gateway',
    share: 3,
    routes: [
      intercepted('redirect of a local client, IPv4', 'redirect', 4, PORTS.dual),
      intercepted('redirect of a local client, IPv6', 'redirect', 6, PORTS.dual),
      direct('direct, local client', LOCAL.v4, PORTS.v4),
      intercepted('relay, redirect of a local client', 'redirect', 4, PORTS.relay),
    ],
  },
  {
    name: 'rules that come and go',
    protocol: 'tcp',
    from: 'changing-client',
    proxy: 'changing',
    share: 2,
    routes: [
      intercepted('redirect, rules come and go', 'redirect', 4, PORTS.changing),
      intercepted('redirect, IPv6, rules come and go', 'redirect', 6, PORTS.changing),
      direct('direct, rules come and go', CHANGING_GATEWAY.v4, PORTS.changing, { untracked: true }),
      direct('direct, IPv6, rules come and go', CHANGING_GATEWAY.v6, PORTS.changing, { untracked: true }),
      direct('relay, direct, rules come and go', CHANGING_GATEWAY.v4, PORTS.changingRelay, {
        untracked: true,
      }),
    ],
  },
  {
    name: 'datagrams',
    protocol: 'udp',
    from: 'client',
    proxy: 'gateway',
    share: 3,
    routes: [
      intercepted('udp redirect, v4-mapped', 'redirect', 4, PORTS.datagrams),
      intercepted('udp redirect, IPv6', 'redirect', 6, PORTS.datagrams),
      intercepted('udp redirect, IPv4 socket', 'redirect', 4, PORTS.datagramsV4),
      direct('udp direct, v4-mapped', GATEWAY.v4, PORTS.datagrams),
      direct('udp direct, IPv6', GATEWAY.v6, PORTS.datagrams),
    ],
  },
  {
    name: 'datagrams by TPROXY',
    protocol: 'udp',
    from: 'client',
    proxy: 'gateway',
    share: 2,
    routes: [
      intercepted('udp TPROXY, v4-mapped', 'tproxy', 4, PORTS.transparentDatagrams),
      intercepted('udp TPROXY, IPv6', 'tproxy', 6, PORTS.transparentDatagrams),
      direct('udp direct, transparent socket', GATEWAY.v4, PORTS.transparentDatagrams),
    ],
  },
  {
    name: 'datagrams, rules that come and go',
    protocol: 'udp',
    from: 'changing-client',
    proxy: 'changing',
    share: 1,
    routes: [
      intercepted('udp redirect, rules come and go', 'redirect', 4, PORTS.datagrams),
      direct('udp direct, rules come and go', CHANGING_GATEWAY.v4, PORTS.datagrams, { untracked: true }),
    ],
  },
];
