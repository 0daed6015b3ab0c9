// The TCP listeners of this network namespace, and whom they can hear.
import { canonicalAddress, familyOf } from '../address.ts';
import type { Host } from './host.ts';

/** A TCP socket that listens in this network namespace. */
export interface FoundListener {
  address: string;
  port: number;
  /** Does it take one family only? `::` takes IPv4 too, unless IPV6_V6ONLY is set. */
  oneFamily: boolean;
  /** Undefined where ss(8) is missing or too old to tell. */
  transparent: boolean | undefined;
  mptcp: boolean;
}

/** `127.0.0.1:80`, `[::1]:80`, `0.0.0.0%lo:80`; `*:80` is `::` of both families, `[::]:80` of IPv6 alone. */
const LOCAL = /^LISTEN\s+\d+\s+\d+\s+\[?([^\]\s]+?)\]?(?:%\S+?)?:(\d+)\s/;

type Line = Pick<FoundListener, 'address' | 'port' | 'oneFamily'> & { options: string | undefined };

function parse(stdout: string): Line[] {
  return stdout.split('\n').flatMap((line) => {
    const [, address, port] = LOCAL.exec(line) ?? [];
    if (address === undefined || port === undefined) return [];
    const options = /inet-sockopt: \((.*)\)/.exec(line)?.[1];
    const both = address === '*';
    // An AF_INET6 socket can be bound to an IPv4-mapped address.
    const canonical = both ? '::' : canonicalAddress(address)!;
    return [{ address: canonical, port: Number(port), oneFamily: !both, options }];
  });
}

/** The listening sockets, by sock_diag(7), through ss(8); undefined where there is no ss. */
export async function findListeners(host: Host): Promise<FoundListener[] | undefined> {
  // Options on the line of the socket. An old ss refuses the flag; then transparency stays unknown.
  const detailed = await host.run('ss', ['-HltnO', '--inet-sockopt']);
  const listed = detailed.status === 0 ? detailed : await host.run('ss', ['-HltnO']);
  if (listed.status !== 0) return undefined;
  const mptcp = new Set(
    parse((await host.run('ss', ['-HlMnO'])).stdout).map(({ address, port }) => `${address} ${port}`),
  );
  return parse(listed.stdout).map(({ address, port, oneFamily, options }) => ({
    address,
    port,
    oneFamily,
    transparent: options === undefined ? undefined : options.split(' ').includes('transparent'),
    mptcp: mptcp.has(`${address} ${port}`),
  }));
}

/** Does a listener take connections to any of a family's addresses? */
export function takesFamily({ address, oneFamily }: FoundListener, family: 4 | 6): boolean {
  return !oneFamily || familyOf(address) === `IPv${family}`;
}

export function onLoopbackOnly({ address }: FoundListener): boolean {
  return address.startsWith('127.') || address === '::1';
}
