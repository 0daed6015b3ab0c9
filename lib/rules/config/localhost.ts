// The addresses that programs mean when they mean this host and no other.
import type { Family } from './config.ts';
import { addresses } from './fields.ts';
import { covers, parseCidr, toPrefixes } from './ranges.ts';
import { contradiction } from './refusals.ts';

const LOCALHOST: Record<Family, string> = { IPv4: '127.0.0.1/32', IPv6: '::1/128' };
const LOOPBACK = [parseCidr('', '127.0.0.0/8')];

/** Reads the option `localhost`: a prefix of each family. */
export function readLocalhost(
  value: string | undefined,
  families: readonly Family[],
): Record<Family, string> {
  if (value === undefined) return LOCALHOST;
  const { IPv4 } = addresses('localhost', [value], families);
  if (!covers(LOOPBACK, IPv4) || !covers(IPv4, [parseCidr('', '127.0.0.1')]))
    contradiction(`localhost: ${value} is no part of 127.0.0.0/8 with 127.0.0.1 in it`);
  return { ...LOCALHOST, IPv4: toPrefixes(IPv4[0]!, 'IPv4')[0]! };
}
