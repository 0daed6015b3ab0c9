// Does IPv6 go past the rules?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('ipv6-bypass');

/** Rules for IPv4 alone on a host that has a way out over IPv6. */
export const ipv6Bypass: Check = async (context) => {
  const own = await context.rulesInQuestion();
  if (own.length === 0 || own.some(({ families }) => families.includes(6))) return [];
  const { status, stdout } = await context.host.run('ip', ['-6', 'route', 'show', 'default']);
  if (status !== 0 || stdout.trim() === '') return [];
  return [
    finding.warning(
      'IPv6 goes past the proxy',
      'All rules that intercept are for IPv4, and this host has a default route for IPv6: what has an AAAA record is not intercepted.',
      'original-dst rules print',
    ),
  ];
};
