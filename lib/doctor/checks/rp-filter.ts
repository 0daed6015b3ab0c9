// Does the reverse path filter drop what TPROXY delivers?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import { perInterface, sysctl } from '../sysctl.ts';

const finding = new Findings('rp-filter');

const STRICT = 1;

/** net.ipv4.conf.*.rp_filter (RFC 3704): the larger of `all` and the interface's own counts. */
export const rpFilter: Check = ({ host }) => {
  const all = sysctl(host, 'net.ipv4.conf.all.rp_filter') ?? 0;
  const strict = perInterface(host, 'rp_filter')
    .filter(({ device, value }) => device !== 'lo' && Math.max(all, value) === STRICT)
    .map(({ device }) => device);
  if (strict.length > 0) {
    return [
      finding.warning(
        `strict reverse-path filter on ${strict.join(', ')}`,
        'A packet is dropped unless the route back to its source leaves by the interface it came in on. With policy routing, several uplinks or a gateway with two legs that loses connections in silence; loose (2) does not.',
        `sysctl -w ${['all', ...strict].map((device) => `net.ipv4.conf.${device.replaceAll('.', '/')}.rp_filter=2`).join(' ')}`,
      ),
    ];
  }
  return [finding.ok('no strict reverse-path filter', 'Routes back may differ from the way in.')];
};
