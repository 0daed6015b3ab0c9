// What is measured of a server, read from its `stats`: families of values in Prometheus' terms.
import type { InterceptStats } from '../accept/stats.ts';
import type { Histogram } from '../relay/histogram.ts';
import type { RelayServerStats } from '../relay/server-stats.ts';
import type { DatagramStats } from '../udp/types.ts';

type Labels = Readonly<Record<string, string>>;

/** One value of a family. */
export interface Sample {
  /** Of a histogram: `_bucket`, `_sum`, `_count`, behind the metric's name. */
  suffix?: string;
  value: number;
  labels: Labels;
}

/** A metric, and how a server's part of it is read; undefined: that kind of server has none. */
export interface Family {
  /** Without the prefix. */
  name: string;
  help: string;
  type: 'counter' | 'gauge' | 'histogram';
  read: (stats: AnyStats) => Sample[] | undefined;
}

export type AnyStats = InterceptStats | RelayServerStats | DatagramStats;

const KINDS = ['redirect', 'tproxy', 'ebpf', 'proxy', 'direct', 'unknown'] as const;

function isRelays(stats: AnyStats): stats is RelayServerStats {
  return 'relayed' in stats;
}

function isDatagrams(stats: AnyStats): stats is DatagramStats {
  return 'replySockets' in stats;
}

function single(value: number): Sample[] {
  return [{ value, labels: {} }];
}

/** Datagrams come through no proxy in front. */
function byKind(stats: InterceptStats | DatagramStats): Sample[] {
  const counts: Partial<Record<(typeof KINDS)[number], number>> = stats;
  return KINDS.filter((kind) => kind in stats).map((kind) => ({ value: counts[kind]!, labels: { kind } }));
}

function byCode(counts: Record<string, number>): Sample[] {
  return Object.entries(counts).map(([code, value]) => ({ value, labels: { code } }));
}

/** Of a server for TCP connections, of either kind. */
function ofConnections(read: (stats: InterceptStats) => Sample[]): Family['read'] {
  return (stats) => (isDatagrams(stats) ? undefined : read(stats));
}

function ofRelays(read: (stats: RelayServerStats) => Sample[]): Family['read'] {
  return (stats) => (isRelays(stats) ? read(stats) : undefined);
}

function ofDatagrams(read: (stats: DatagramStats) => Sample[]): Family['read'] {
  return (stats) => (isDatagrams(stats) ? read(stats) : undefined);
}

/** Prometheus counts in seconds, and in each bucket those of the smaller ones too. */
function buckets({ bounds, counts, sum }: Histogram): Sample[] {
  let count = 0;
  const samples = counts.map((own, at) => {
    count += own;
    const le = at < bounds.length ? String(bounds[at]! / 1000) : '+Inf';
    return { suffix: '_bucket', value: count, labels: { le } };
  });
  return [
    ...samples,
    { suffix: '_sum', value: sum / 1000, labels: {} },
    { suffix: '_count', value: count, labels: {} },
  ];
}

const histogram = (name: string, help: string, read: (stats: RelayServerStats) => Histogram): Family => ({
  name,
  help,
  type: 'histogram',
  read: ofRelays((stats) => buckets(read(stats))),
});

const counter = (name: string, help: string, read: Family['read']): Family => ({
  name,
  help,
  type: 'counter',
  read,
});

const gauge = (name: string, help: string, read: Family['read']): Family => ({
  name,
  help,
  type: 'gauge',
  read,
});

/** All of them. Names and units as Prometheus' own guide asks for: base units, `_total` for what only grows. */
export const FAMILIES: readonly Family[] = [
  counter(
    'connections_total',
    'Connections by what was found out about their destination.',
    ofConnections(byKind),
  ),
  counter(
    'connection_errors_total',
    'Connections whose destination is unknown, by cause.',
    ofConnections(({ errors }) => byCode(errors)),
  ),
  counter(
    'connections_reset_total',
    'Connections that were answered with RST by verdict or option.',
    ofConnections(({ reset }) => single(reset)),
  ),
  counter(
    'connections_refused_total',
    'Connections that were not dialled on, by the code of the error.',
    ofConnections(({ refused }) => byCode(refused)),
  ),
  counter(
    'connections_accepted_total',
    'Connections that the relay server has accepted.',
    ofRelays(({ accepted }) => single(accepted)),
  ),
  counter(
    'decisions_total',
    'Connections that came before decide(); the others a lasting verdict covered.',
    ofRelays(({ undecided }) => single(undecided)),
  ),
  counter(
    'relays_total',
    'Connections that were dialled on.',
    ofRelays(({ relayed }) => single(relayed)),
  ),
  counter(
    'relay_failures_total',
    'Dials that failed, and connections for which there was no descriptor.',
    ofRelays(({ failed }) => single(failed)),
  ),
  counter(
    'clients_gone_total',
    'Clients that had gone before the decision.',
    ofRelays(({ gone }) => single(gone)),
  ),
  gauge(
    'clients_inspecting',
    'Clients whose first bytes are awaited now.',
    ofRelays(({ inspecting }) => single(inspecting)),
  ),
  gauge(
    'relays_open',
    'Relays that are open now.',
    ofRelays(({ open }) => single(open)),
  ),
  counter(
    'relay_bytes_total',
    'Bytes that relays have moved.',
    ofRelays(({ bytesToUpstream, bytesToClient }) => [
      { value: bytesToUpstream, labels: { direction: 'to_upstream' } },
      { value: bytesToClient, labels: { direction: 'to_client' } },
    ]),
  ),
  histogram(
    'relay_connect_seconds',
    'How long it took to connect to the destinations.',
    ({ connectMs }) => connectMs,
  ),
  histogram(
    'relay_duration_seconds',
    'How long relays have lived, from the dial on.',
    ({ durationMs }) => durationMs,
  ),
  counter(
    'records_dropped_total',
    'Records of connections that nobody took in time.',
    ofRelays(({ recordsDropped }) => single(recordsDropped)),
  ),
  counter('datagrams_total', 'Datagrams by what was found out about their destination.', ofDatagrams(byKind)),
  counter(
    'datagrams_truncated_total',
    'Datagrams that were longer than maxSize.',
    ofDatagrams(({ truncated }) => single(truncated)),
  ),
  counter(
    'datagrams_dropped_total',
    'Datagrams that the kernel threw away because they were not read in time.',
    ofDatagrams(({ dropped }) => single(dropped)),
  ),
  counter(
    'datagram_errors_total',
    'Errors of recvmmsg, by code.',
    ofDatagrams(({ errors }) => byCode(errors)),
  ),
  gauge(
    'reply_sockets',
    'Reply sockets that are open now.',
    ofDatagrams(({ replySockets }) => single(replySockets)),
  ),
];
