// Which settings below /proc/sys rules may change, and nothing beyond them.
import { codedError } from '../../errors.ts';
import type { Sysctl } from '../types.ts';

const SETTING =
  /^net\/(?:ipv4\/ip_forward|ipv6\/conf\/all\/forwarding|ipv4\/conf\/all\/accept_redirects|ipv[46]\/conf\/([^/]+)\/forwarding)$/;

/** What the kernel takes for the name of an interface (dev_valid_name in net/core/dev.c). */
function isInterfaceName(name: string): boolean {
  return Buffer.byteLength(name) < 16 && name !== '.' && name !== '..' && !/[/:\0\t-\r ]/.test(name);
}

/** Is it one of the settings that forwarding changes, with a value that it can have? */
export function isSetting({ key, value }: Sysctl): boolean {
  const [setting, interfaceName = ''] = SETTING.exec(key) ?? [];
  return setting !== undefined && isInterfaceName(interfaceName) && /^-?\d{1,10}$/.test(value);
}

/**
 * The file of a setting: the one place that makes a path below /proc/sys. Keys come from a plan, or from a record
 * that anybody with CAP_NET_ADMIN can write; `net/../kernel/core_pattern` would lead out of the network namespace.
 */
export function settingPath(key: string): string {
  if (isSetting({ key, value: '0' })) return `/proc/sys/${key}`;
  throw codedError('ERR_RULES_OPTION', `plan.sysctls: '${key}' is no setting that rules may change`);
}
