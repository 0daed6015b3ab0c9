// The settings of a host that passes packets on.
import type { Family } from '../config/config.ts';
import type { Sysctl } from '../types.ts';

/** The switches that let this host pass packets on. */
export const FORWARDING: Record<Family, string> = {
  IPv4: 'net/ipv4/ip_forward',
  IPv6: 'net/ipv6/conf/all/forwarding',
};

const DIRECTORY: Record<string, string> = {
  [FORWARDING.IPv4]: '/proc/sys/net/ipv4/conf',
  [FORWARDING.IPv6]: '/proc/sys/net/ipv6/conf',
};

export function isSwitch({ key }: Sysctl): boolean {
  return Object.hasOwn(DIRECTORY, key);
}

/** The command that shows what the kernel sets along with a switch. */
export function listBeside(key: string): [string, ...string[]] {
  // Turning IPv4 forwarding on also turns off the acceptance of ICMP redirects, and on again with it.
  const also = key === FORWARDING.IPv4 ? ['-o', '-path', '*/all/accept_redirects'] : [];
  return [
    'find',
    DIRECTORY[key]!,
    '(',
    '-name',
    'forwarding',
    ...also,
    ')',
    '-exec',
    'grep',
    '-H',
    '',
    '{}',
    '+',
  ];
}

/**
 * From the output of listBeside, the values that turning the switch on and back would not leave as they are: a
 * single interface that forwards, for instance, while the host as a whole does not.
 */
export function lostBeside(output: string, { key, value }: Sysctl): Sysctl[] {
  return [...output.matchAll(/^\/proc\/sys\/(.*):(\S+)$/gm)]
    .map(([, name, current]) => ({ key: name!, value: current! }))
    .filter((beside) => beside.key !== key)
    .filter((beside) => {
      const back = beside.key.endsWith('accept_redirects') ? (value === '0' ? '1' : '0') : value;
      return beside.value !== back;
    });
}
