// Are packets of others passed on, as a gateway must?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';
import { sysctl } from '../sysctl.ts';

const finding = new Findings('ip-forward');

const SETTINGS = [
  { family: 'IPv4', name: 'net.ipv4.ip_forward' },
  { family: 'IPv6', name: 'net.ipv6.conf.all.forwarding' },
];

/** Forwarding: a gateway needs it for everything that it does not intercept. */
export const ipForward: Check = ({ host, subject }) => {
  const off = SETTINGS.filter(({ name }) => sysctl(host, name) === 0);
  const names = off.map(({ family }) => family).join(' and ');
  if (off.length === 0) return [finding.ok('this host forwards', 'It can be a gateway.')];
  const detail =
    'Intercepted connections end here and need no forwarding. Everything else from the machines behind a gateway (excluded ports, UDP, ICMP) does.';
  if (subject.direction === 'gateway') {
    const remedy = `sysctl -w ${off.map(({ name }) => `${name}=1`).join(' ')}`;
    return [finding.problem(`this gateway does not forward ${names}`, detail, remedy)];
  }
  return [finding.ok(`this host does not forward ${names}`, detail)];
};
