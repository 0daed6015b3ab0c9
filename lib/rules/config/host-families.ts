// Which address families this host has: the one question to the system that plans may depend on.
import { readdirSync, readFileSync } from 'node:fs';
import type { Family } from './config.ts';

const SETTINGS = '/proc/sys/net/ipv6/conf';

/** Is it an interface on which IPv6 is on? */
function isOn(name: string): boolean {
  if (name === 'all' || name === 'default') return false;
  try {
    return readFileSync(`${SETTINGS}/${name}/disable_ipv6`, 'utf8').startsWith('0');
  } catch {
    // It has gone meanwhile.
    return false;
  }
}

/**
 * The families of this network namespace: IPv6 is missing where the kernel has none (`ipv6.disable=1`) and where it
 * is switched off on every interface (`net.ipv6.conf.all.disable_ipv6=1`, as in many containers). Rules of tproxy for
 * a family that is not there cannot be installed, because no route for it can:
 *
 * ```ts
 * await apply(onlyFamilies(planRules(config), hostFamilies()));
 * ```
 *
 * Capability: none. Source: Documentation/networking/ip-sysctl.rst, disable_ipv6.
 */
export function hostFamilies(): Family[] {
  let interfaces: string[];
  try {
    interfaces = readdirSync(SETTINGS);
  } catch {
    interfaces = [];
  }
  return interfaces.some(isOn) ? ['IPv4', 'IPv6'] : ['IPv4'];
}
