// The sidecar preset: what a service mesh programs.
import type { Family, InboundRules, OutboundMatch, PortRange, RulesConfig } from './config.ts';

/** How the preset may differ from a pod's usual rules. */
export interface SidecarOptions {
  /** Default `sidecar`. */
  name?: string;
  /** Default both. */
  families?: readonly Family[];
  /**
   * How inbound connections are captured; outbound ones always by redirect. `none`: only the proxy's own calls to its
   * pod come to the inbound listener. Default `redirect`.
   */
  inbound?: 'redirect' | 'tproxy' | 'none';
  /** Default: all. */
  inboundPorts?: readonly PortRange[];
  /** Beside 15020, 15021, 15090 and 15008. */
  excludeInboundPorts?: readonly PortRange[];
  /** Interfaces that are left alone in both directions. */
  excludeInterfaces?: readonly string[];
  /** Captured whatever their destination is, beside what `outboundCidrs` captures. Default: none. */
  outboundPorts?: readonly PortRange[];
  /** Default: all. */
  outboundCidrs?: readonly string[];
  /** Beside 15020. */
  excludeOutboundPorts?: readonly PortRange[];
  excludeOutboundCidrs?: readonly string[];
  /** Captured only if a program of one of these groups dials, DNS too. Default: all. */
  outboundGids?: readonly number[];
  /** Not captured if a program of one of these groups dials, DNS neither. Default: none. */
  excludeOutboundGids?: readonly number[];
  /** Capture DNS too: all queries, or those to these resolvers. Default false. */
  dns?: boolean | { servers: readonly string[] };
  /** User and group of the proxy, or several. Default 1337. */
  proxyUid?: number | readonly number[];
  proxyGid?: number | readonly number[];
  /** Loopback addresses that the proxy dials its program from. Default 127.0.0.6 and ::6, of the families. */
  passthrough?: readonly string[];
  /** The IPv4 addresses that programs mean by `localhost`. Default 127.0.0.1. */
  localhost?: string;
  /**
   * With inbound `tproxy`: the mark that is routed to this host, and the routing table. Sockets that dial with a client's
   * address carry 1337 all the same. Default 1337 and 133.
   */
  mark?: number;
  table?: number;
  /** Default true. */
  dropInvalid?: boolean;
}

const OUTBOUND = 15001;
const INBOUND = 15006;
const HBONE = 15008;
const DNS = 15053;
/** Where the agent beside the proxy answers probes; other proxies of the mesh ask it too. */
const STATUS = 15020;
/** SO_MARK of what the proxy dials with a client's address. */
const SOURCE_MARK = 1337;
const TELEMETRY = [STATUS, 15021, 15090];

/** Loopback addresses that the proxy dials its pod's program from. */
const PASSTHROUGH: Record<Family, string> = { IPv4: '127.0.0.6', IPv6: '::6' };

function one(
  field: keyof OutboundMatch,
  entries: readonly (PortRange | string)[] | undefined,
): OutboundMatch[] {
  return entries === undefined || entries.length === 0 ? [] : [{ [field]: entries }];
}

function inboundRules(mode: 'redirect' | 'tproxy', options: SidecarOptions): InboundRules {
  const { inboundPorts, mark = SOURCE_MARK } = options;
  return {
    mode,
    port: INBOUND,
    scope: 'any',
    include: inboundPorts ? [{ ports: inboundPorts }] : [{}],
    exclude: [
      { ports: [HBONE, ...TELEMETRY, ...(options.excludeInboundPorts ?? [])] },
      ...one('interfaces', options.excludeInterfaces),
    ],
    ...(mode === 'tproxy' && mark !== SOURCE_MARK ? { preserveSource: { mark: SOURCE_MARK } } : {}),
  };
}

/**
 * The configuration of a service mesh's sidecar, as Istio programs it: inbound TCP to port 15006, outbound TCP to
 * 15001, DNS to 15053, from a proxy that runs as user and group 1337 and dials its program from 127.0.0.6 or ::6.
 *
 * With inbound `tproxy` the proxy must run as user 0 and group 1337: as user 1337 it would be redirected when it
 * dials its program with a client's address. Its sockets that do so carry the mark 1337. One thing is stricter than
 * there: a SYN is never taken for a packet of a connection that conntrack remembers, see inbound.ts.
 */
export function sidecar(options: SidecarOptions = {}): RulesConfig {
  const {
    inbound = 'redirect',
    outboundPorts = [],
    outboundCidrs,
    proxyUid = 1337,
    proxyGid = 1337,
  } = options;
  const families = options.families ?? ['IPv4', 'IPv6'];
  const everything = outboundCidrs === undefined;
  const owners = options.outboundGids === undefined ? {} : { gids: options.outboundGids };
  // All includes all ports; naming them too would be refused as superfluous.
  const included = everything
    ? [{}]
    : [...one('ports', outboundPorts), ...one('destinations', outboundCidrs)];
  const { mark = SOURCE_MARK, table = 133, localhost } = options;
  return {
    name: options.name ?? 'sidecar',
    families,
    ...(inbound === 'none' ? {} : { inbound: inboundRules(inbound, options) }),
    outbound: {
      mode: 'redirect',
      port: OUTBOUND,
      hairpin: { exceptPorts: [HBONE], ...(inbound === 'none' ? { port: INBOUND } : {}) },
      include: included.map((match) => ({ ...match, ...owners })),
      exclude: [
        ...one('interfaces', options.excludeInterfaces),
        ...(options.excludeOutboundGids ? [{ gids: options.excludeOutboundGids }] : []),
        { ports: [STATUS, ...(options.excludeOutboundPorts ?? [])] },
        ...one('destinations', options.excludeOutboundCidrs),
      ],
    },
    ...(options.dns ? { dns: { port: DNS, ...(options.dns === true ? {} : options.dns) } } : {}),
    exempt: {
      uids: [proxyUid].flat(),
      gids: [proxyGid].flat(),
      sources: options.passthrough ?? families.map((family) => PASSTHROUGH[family]),
    },
    ...(localhost === undefined ? {} : { localhost }),
    dropInvalid: options.dropInvalid ?? true,
    ...(inbound === 'tproxy' || options.mark !== undefined || options.table !== undefined
      ? { mark, table }
      : {}),
  };
}
