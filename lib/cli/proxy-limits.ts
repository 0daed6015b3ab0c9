// `original-dst proxy`: how many connections it takes on, and by how many threads.
import type { Command } from 'commander';
import type { AdmissionOptions } from '../relay/admission.ts';
import { integer } from './arguments.ts';

export interface ProxyLimits extends AdmissionOptions {
  threads?: number;
  backlog?: number;
}

const most = integer(0, 2 ** 32 - 1);

export function addLimitOptions(command: Command): Command {
  return command
    .optionsGroup('Limits:')
    .option(
      '--max-connections <count>',
      'connections at a time; what goes beyond is sent RST (0: no limit)',
      most,
    )
    .option(
      '--max-per-client <count>',
      'the same, of one client: an IPv4 address, an IPv6 network of 64 bits',
      most,
    )
    .option('--max-rate-per-client <count>', 'new connections of one client in a second', most)
    .option('--max-pending <count>', 'connections that are not decided about: with --inspect, say', most)
    .option('--backlog <count>', 'as of listen(2); at most net.core.somaxconn', integer(0, 65535))
    .option('--threads <count>', 'how many threads accept and relay (default: 1)', integer(1, 64));
}

/** What only the native relay has. */
export function unfitLimits({
  relay,
  threads,
  maxPending,
}: ProxyLimits & { relay: boolean }): string | undefined {
  if (relay) return undefined;
  if (threads !== undefined) return '--threads is about the native relay, which --no-relay does without';
  return maxPending === undefined
    ? undefined
    : '--max-pending is about the native relay, which --no-relay does without';
}

/** Those that were given. */
export function limitsOf(options: ProxyLimits): ProxyLimits {
  const { maxConnections, maxPerClient, maxRatePerClient, maxPending, backlog, threads } = options;
  const all = { maxConnections, maxPerClient, maxRatePerClient, maxPending, backlog, threads };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}
