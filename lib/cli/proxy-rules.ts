// The rules of `proxy --with-rules`: those that fit where it listens and how it dials.
import { networkInterfaces } from 'node:os';
import { canonicalAddress, familyOf, isWildcard } from '../address.ts';
import type { Family, Mode, RulePlan } from '../rules/index.ts';
import type { ListenAddress } from './arguments.ts';
import { hostPlan } from './host-plan.ts';
import { keepSessions } from './ssh-session.ts';
import { flowConfig, type FlowConfigMore, type FlowOptions, OWN_MARK } from './rules-options.ts';

export interface ProxyRulesOptions extends FlowOptions {
  mode: Mode;
  listen: ListenAddress;
  preserveSource?: true | 'port';
  mark?: number;
  withRules?: true;
  capture?: 'rules' | 'ebpf';
}

/** The default of `--tproxy-mark`. */
const TPROXY_MARK = 1337;

const LOOPBACK: Record<Family, string> = { IPv4: '127.0.0.1', IPv6: '::1' };

/** Does the proxy dial programs of this host from its clients' addresses, with the mark that brings the answers back? */
function borrowsForInbound({ direction, preserveSource }: ProxyRulesOptions): boolean {
  return direction === 'inbound' && preserveSource !== undefined;
}

/** What the rules are to do for the answers to connections with a client's address: one of this host finds its way. */
function answers(options: ProxyRulesOptions): FlowConfigMore {
  const { direction, preserveSource, mark, tproxyMark = TPROXY_MARK } = options;
  if (preserveSource === undefined || (direction ?? 'outbound') === 'outbound') return {};
  const marked = direction === 'inbound' && mark !== undefined && mark !== tproxyMark;
  return { preserveSource: marked ? { mark } : true };
}

/** SO_MARK of what the proxy dials. */
export function ownMark(options: ProxyRulesOptions): number | undefined {
  const { mark, withRules, capture, tproxyMark = TPROXY_MARK } = options;
  if (!withRules) return mark ?? (capture === 'ebpf' ? OWN_MARK : undefined);
  return mark ?? (borrowsForInbound(options) ? tproxyMark : OWN_MARK);
}

/** The families that a listener takes; the kernel gives one at `::` IPv4 too. */
function familiesAt(host: string): readonly Family[] {
  return host === '::' ? ['IPv4', 'IPv6'] : [familyOf(host)];
}

/** Where the kernel redirects what came in there: the interface's first address. */
function firstAddress(name: string, family: Family): string | undefined {
  return networkInterfaces()[name]?.find((each) => each.family === family)?.address;
}

function unfitListener({
  listen,
  family: asked,
  direction,
  interfaces,
}: ProxyRulesOptions): string | undefined {
  const host = canonicalAddress(listen.host)!;
  const families = familiesAt(host);
  const missing = asked?.find((each) => !families.includes(each));
  if (missing !== undefined)
    return `--listen ${listen.host} does not take ${missing}, which --family asks for`;
  if (isWildcard(host)) return undefined;
  const [family] = families as [Family];
  if (direction === undefined || direction === 'outbound') {
    if (host === LOOPBACK[family]) return undefined;
    return `outbound connections come in at ${LOOPBACK[family]}, not at ${host}: listen there, or give --listen a port alone`;
  }
  if (interfaces?.every((name) => firstAddress(name, family) === host)) return undefined;
  return `${direction} connections come in at the first address of the interface they came by, which need not be ${host}: give --listen a port alone, or name with --interfaces those that have this address`;
}

function unfitSource(options: ProxyRulesOptions): string | undefined {
  const { mode, direction = 'outbound', preserveSource } = options;
  if (mode === 'tproxy' || direction === 'outbound' || preserveSource !== 'port') return undefined;
  return 'with --preserve-source port conntrack would take the connection to the server for the client’s, which redirect has led here: leave the port out, or use --mode tproxy';
}

/** Why connections that rules bring would not get through this proxy, if they would not. */
export function unfit(options: ProxyRulesOptions): string | undefined {
  return unfitListener(options) ?? unfitSource(options);
}

/**
 * The rules that bring connections to the proxy. Its own pass by the mark that it gives them, whatever else is exempt:
 * with any other sign, whoever forgets it has a loop.
 */
export function proxyPlan(
  options: ProxyRulesOptions,
  port: number,
  say: (message: string) => void,
): RulePlan {
  // What borrows addresses for inbound connections is told by tproxy's own mark.
  const own = borrowsForInbound(options) ? [] : [ownMark(options)!];
  const exemptMark = [...new Set([...own, ...(options.exemptMark ?? [])])];
  const families = familiesAt(canonicalAddress(options.listen.host)!);
  const config = flowConfig(
    { name: 'proxy', ...options, family: options.family ?? [...families], exemptMark },
    options.mode,
    port,
    answers(options),
  );
  keepSessions(config);
  return hostPlan(config, options.family !== undefined, say);
}
