// What createCapture() can be told.
import { checkBoolean, checkOptionNames, invalidType, outOfRange } from '../arguments.ts';
import { NamePolicy } from '../policy/name-policy.ts';
import type { RelayInspectOptions } from '../relay/inspection.ts';
import type { RelayServerOptions } from '../relay/server-options.ts';

export interface CaptureOptions {
  /** Who may be talked to. What it refuses is sent RST, REFUSED by DNS, and told in `'denied'`. */
  policy?: NamePolicy;
  /** Asked about each connection that the policy lets through, as of createRelayServer. Default: it is relayed. */
  decide?: RelayServerOptions['decide'];
  /** As of createRelayServer: wait for the first bytes, for the name in them. */
  inspect?: RelayInspectOptions;
  /** Capture DNS, and ask this resolver. Default: the one in /etc/resolv.conf; false: it is TCP and UDP like any other. */
  dns?: boolean | { upstream: { address: string; port?: number } };
  /** What becomes of UDP that is not DNS. Default `'relay'`. */
  udp?: 'relay' | 'reject';
  /** Find out which process has dialled, sent or asked, for the events: see processOf(), and what that costs. Default false. */
  processes?: boolean;
}

const OPTIONS = new Set<string>(['policy', 'decide', 'inspect', 'dns', 'udp', 'processes']);

export function checkCaptureOptions(options: unknown): asserts options is CaptureOptions {
  if (typeof options !== 'object' || options === null)
    throw invalidType('options', 'of type object', options);
  checkOptionNames('createCapture', Object.keys(options), OPTIONS);
  const { policy, decide, dns, udp, processes } = options as CaptureOptions;
  if (policy !== undefined && !(policy instanceof NamePolicy))
    throw invalidType('options.policy', 'an instance of NamePolicy', policy);
  if (decide !== undefined && typeof decide !== 'function')
    throw invalidType('options.decide', 'of type function', decide);
  if (dns !== undefined && (typeof dns !== 'object' || dns === null)) checkBoolean('options.dns', dns);
  if (udp !== undefined && udp !== 'relay' && udp !== 'reject')
    throw outOfRange('options.udp', "'relay' or 'reject'", udp);
  if (processes !== undefined) checkBoolean('options.processes', processes);
}
