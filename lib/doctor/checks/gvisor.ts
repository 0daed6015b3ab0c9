// Is this gVisor, whose network has no interception?
import type { Check } from '../context.ts';
import { Findings } from '../finding.ts';

const finding = new Findings('gvisor');

/** What gVisor's own kernel answers for /proc/version, whatever the host runs. */
const VERSION = 'Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016';

/** gVisor (runsc) */
export const gvisor: Check = ({ host }) =>
  (host.read('/proc/version') ?? '').startsWith(VERSION)
    ? [
        finding.problem(
          'this is gVisor and not Linux',
          'Its network stack answers SO_ORIGINAL_DST with ENOPROTOOPT and has no TPROXY: true destinations cannot be had inside the sandbox. Intercept outside of it, or run this workload with runc.',
          'docker run --runtime=runc …',
        ),
      ]
    : [];
