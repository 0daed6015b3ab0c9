// Do packets from outside reach a listener on 127.0.0.1?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import { perInterface, sysctl } from '../sysctl.ts';

const finding = new Findings('route-localnet');

/** net.ipv4.conf.*.route_localnet: may packets from outside be sent on to 127.0.0.0/8? */
export const routeLocalnet: Check = async (context) => {
  const { host } = context;
  const all = sysctl(host, 'net.ipv4.conf.all.route_localnet') ?? 0;
  const devices = perInterface(host, 'route_localnet').filter(({ device }) => device !== 'lo');
  const open = devices.filter(({ value }) => all !== 0 || value !== 0).map(({ device }) => device);
  const needing = (await context.rulesInQuestion()).find(
    ({ kind, hooks, address }) =>
      kind === 'dnat' && hooks.includes('prerouting') && address?.startsWith('127.') === true,
  );
  if (needing && open.length === 0) {
    return [
      finding.problem(
        'packets from outside are sent to 127.0.0.0/8, which this host does not allow',
        `The rule in ${needing.place} sends to ${needing.address}; the packets are dropped as martians. Use REDIRECT, which sends to the address of the interface, or allow it.`,
        `sysctl -w ${devices.map(({ device }) => `net.ipv4.conf.${device.replaceAll('.', '/')}.route_localnet=1`).join(' ')}`,
      ),
    ];
  }
  if (open.length > 0 && !needing) {
    return [
      finding.warning(
        `route_localnet is on for ${open.join(', ')}`,
        'Neighbours on the network can reach services that listen on 127.0.0.1, and no rule here needs it.',
        `sysctl -w ${['all', ...open].map((device) => `net.ipv4.conf.${device.replaceAll('.', '/')}.route_localnet=0`).join(' ')}`,
      ),
    ];
  }
  return [finding.ok(open.length > 0 ? 'on, and needed' : 'off, and not needed', 'As the rules need it.')];
};
