// Which connections: a FlowMatch, read.
import { codedError } from '../../errors.ts';
import { checkInteger } from '../../arguments.ts';
import type { Captured, Family, OutboundMatch } from './config.ts';
import { addresses, checkObject, ids, list, ports } from './fields.ts';
import type { Range } from './ranges.ts';
import { overlap } from './refusals.ts';

/** What a direction's matches may name besides what all have. */
export type More = 'uids' | 'gids' | 'proxyPort';

/** An entry of `include` or `exclude` that has been read: sorted ranges, addresses by family. */
export interface Match {
  ports?: Range[];
  destinations?: Record<Family, Range[]>;
  sources?: Record<Family, Range[]>;
  interfaces?: string[];
  uids?: readonly number[];
  gids?: readonly number[];
  /** Of what is captured, where it is not the direction's own port. */
  proxyPort?: number;
}

/**
 * All that the kernel takes for a name (dev_valid_name), without what nft or iptables would take for something else: a
 * quote ends the name, a backslash quotes, and to iptables a + at the end means all that begin so.
 */
function isInterface(name: string): boolean {
  return (
    Buffer.byteLength(name) <= 15 &&
    /^[^\s/:%"\\\p{Cc}]+$/u.test(name) &&
    !name.endsWith('+') &&
    !['.', '..', '*'].includes(name)
  );
}

function interfaces(option: string, value: readonly string[]): string[] {
  const names = [...list(option, value)].sort();
  for (const [i, name] of names.entries()) {
    if (typeof name !== 'string' || !isInterface(name)) {
      throw codedError('ERR_RULES_INTERFACE', `${option}: '${String(name)}' is no interface name`, {
        hint: 'at most 15 bytes without spaces and / : % " \\, with a * (not a +) at the end for all that begin so',
      });
    }
    const wider = names
      .slice(0, i)
      .find((other) => other === name || (other.endsWith('*') && name.startsWith(other.slice(0, -1))));
    if (wider !== undefined) overlap(option, `${wider} and ${name}`);
  }
  return names;
}

const LISTS = ['ports', 'destinations', 'sources', 'interfaces', 'uids', 'gids'] as const;
const OF_EVERY_DIRECTION = ['ports', 'destinations', 'sources', 'interfaces'];

function match(
  option: string,
  value: Captured<OutboundMatch>,
  families: readonly Family[],
  more: readonly More[],
): Match {
  checkObject(option, value, [...OF_EVERY_DIRECTION, ...more]);
  for (const field of LISTS) {
    if (
      value[field] === undefined ||
      list(`${option}.${field}`, value[field] as readonly unknown[]).length > 0
    )
      continue;
    throw codedError('ERR_RULES_CONTRADICTION', `${option}.${field} is empty, so nothing can match`, {
      hint: 'leave it out to match everything',
    });
  }
  const read: Match = {};
  if (value.ports) read.ports = ports(`${option}.ports`, value.ports);
  if (value.destinations)
    read.destinations = addresses(`${option}.destinations`, value.destinations, families);
  if (value.sources) read.sources = addresses(`${option}.sources`, value.sources, families);
  if (value.interfaces) read.interfaces = interfaces(`${option}.interfaces`, value.interfaces);
  for (const field of ['uids', 'gids'] as const) {
    if (value[field]) read[field] = ids(`${option}.${field}`, value[field]);
  }
  if (value.proxyPort !== undefined) {
    checkInteger(`${option}.proxyPort`, value.proxyPort, 1, 65535);
    read.proxyPort = value.proxyPort;
  }
  const { sources, destinations } = read;
  for (const family of sources && destinations ? families : []) {
    if ((sources![family].length === 0) === (destinations![family].length === 0)) continue;
    const [there, missing] =
      sources![family].length === 0 ? ['destinations', 'sources'] : ['sources', 'destinations'];
    throw codedError(
      'ERR_RULES_CONTRADICTION',
      `${option}.${there} names ${family} addresses and ${option}.${missing} none, so none of them can match`,
    );
  }
  return read;
}

/** Reads `include` or `exclude`: one entry, or a list of them. */
export function matches(
  option: string,
  value: Captured<OutboundMatch> | readonly Captured<OutboundMatch>[],
  families: readonly Family[],
  more: readonly More[],
): Match[] {
  if (!Array.isArray(value)) return [match(option, value as Captured<OutboundMatch>, families, more)];
  return (value as readonly Captured<OutboundMatch>[]).map((entry, i) =>
    match(`${option}[${i}]`, entry, families, more),
  );
}
