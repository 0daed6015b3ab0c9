// What makes all that is sent in a namespace come to a few ports of it.
import { binding, type NativeDatagramRefusals } from '../binding.ts';
import { codedError, systemError } from '../errors.ts';
import type { Namespace } from '../namespace/namespace.ts';
import { CAPTURE_TOOLS, missingTools } from '../namespace/tools.ts';

/** Where to: ports of sockets that listen in there. */
export interface CapturePorts {
  tcp: number;
  /** UDP and TCP to port 53, whatever the resolver. */
  dns: number | undefined;
  udp: number | undefined;
}

/** The addresses that programs in there have: RFC 7600's dummy address, and one of RFC 4193. */
export const OWN_ADDRESSES = { IPv4: '192.0.0.8', IPv6: 'fd00:6f64::8' } as const;

/**
 * Everything has a route, to nowhere: rules see it before it goes there. The kernel makes the local route of an IPv6 address
 * in a work queue; until that is done, answers would go nowhere too.
 */
const INTERFACES = `
addr add ${OWN_ADDRESSES.IPv4}/32 dev lo
route add default dev lo src ${OWN_ADDRESSES.IPv4}
addr add ${OWN_ADDRESSES.IPv6}/128 dev lo nodad
route add local ${OWN_ADDRESSES.IPv6} dev lo table local
route add ::/0 dev lo src ${OWN_ADDRESSES.IPv6}
`;

/**
 * DNS first: resolv.conf may name a resolver on a loopback address. What is not led here is refused, at once. A segment
 * that conntrack has no use for is not translated: to the other end it would be one of no connection, answered with RST.
 */
function rules({ tcp, dns, udp }: CapturePorts): string {
  const lines = [
    ...(dns === undefined ? [] : [`meta l4proto { tcp, udp } th dport 53 redirect to :${dns}`]),
    'ip daddr 127.0.0.0/8 accept',
    'ip6 daddr ::1 accept',
    `meta l4proto tcp redirect to :${tcp}`,
    ...(udp === undefined ? [] : [`meta l4proto udp redirect to :${udp}`]),
  ];
  return `table inet original_dst {
    chain capture {
      type nat hook output priority -100
      ${lines.join('\n      ')}
    }
    chain refuse {
      type filter hook output priority 0
      meta l4proto tcp ct state invalid drop
      ct state established,related accept
      ip daddr 127.0.0.0/8 accept
      ip6 daddr ::1 accept
      ip daddr ${OWN_ADDRESSES.IPv4} accept
      ip6 daddr ${OWN_ADDRESSES.IPv6} accept
      reject with icmpx type admin-prohibited
    }
  }\n`;
}

async function run(
  namespace: Namespace,
  command: readonly [string, ...string[]],
  input: string,
): Promise<void> {
  const { status, stderr } = await namespace.run(command, { input });
  if (status === 0) return;
  throw codedError('ERR_CAPTURE_SETUP', `${command.join(' ')} failed in the namespace: ${stderr.trim()}`, {
    hint: 'is this kernel without nf_tables and its NAT? `original-dst doctor` says what is missing: sudo modprobe -a nf_tables nft_chain_nat nft_redir nft_reject_inet',
  });
}

/** @throws `ERR_CAPTURE_SETUP`, with what to do */
export function checkTools(find?: (name: string) => string | undefined): void {
  const missing = missingTools(CAPTURE_TOOLS, find);
  if (missing === undefined) return;
  throw codedError('ERR_CAPTURE_SETUP', missing.why, { hint: `sudo ${missing.remedy}` });
}

/** Addresses, routes and rules. */
export async function captureAll(namespace: Namespace, ports: CapturePorts): Promise<void> {
  await Promise.all([
    run(namespace, ['ip', '-batch', '-'], INTERFACES),
    run(namespace, ['nft', '-f', '-'], rules(ports)),
  ]);
}

/** @throws the system error of socket(2) */
export function openRefusals({ fd }: Namespace): NativeDatagramRefusals {
  const refusals = new (binding().DatagramRefusals)(fd);
  if (refusals.status === 0) return refusals;
  throw systemError(refusals.status, { syscall: 'socket' });
}
