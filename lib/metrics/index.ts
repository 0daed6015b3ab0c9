// The names of `original-dst/metrics`: what servers count, for Prometheus.
/**
 * What servers count, as metrics for Prometheus.
 *
 * @module original-dst/metrics
 */
import { invalidType } from '../arguments.ts';
import { FAMILIES, type AnyStats, type Family, type Sample } from './families.ts';
import type { InterceptStats } from '../accept/stats.ts';
import type { RelayServerStats } from '../relay/server-stats.ts';
import type { DatagramStats } from '../udp/types.ts';

export type { InterceptStats } from '../accept/stats.ts';
export type { RelayServerStats } from '../relay/server-stats.ts';
export type { DatagramStats } from '../udp/types.ts';

/** What can be measured: servers of createServer, intercept and createRelayServer, sockets of createDatagramSocket. */
export type Measured =
  | { readonly stats: RelayServerStats | DatagramStats }
  | { readonly interceptStats: Readonly<InterceptStats> };

/** As much of prom-client's `Registry` as is used here. */
export interface MetricsRegistry {
  registerMetric(metric: never): void;
}

export interface MetricsOptions {
  /** What the names of all metrics begin with. Default `original_dst_`. */
  prefix?: string;
}

const NAME = /^[a-zA-Z_:][a-zA-Z\d_:]*$/;

function statsOf(source: Measured): AnyStats {
  return 'interceptStats' in source ? source.interceptStats : source.stats;
}

/** A metric that is read when it is asked for: nothing is counted twice, and nothing is paid between two scrapes. */
class StatsMetric {
  name: string;
  readonly help: string;
  readonly type: Family['type'];
  readonly #family: Family;
  readonly #servers: readonly (readonly [string, Measured])[];

  constructor(prefix: string, family: Family, servers: readonly (readonly [string, Measured])[]) {
    this.name = prefix + family.name;
    this.help = family.help;
    this.type = family.type;
    this.#family = family;
    this.#servers = servers;
  }

  async get(): Promise<object> {
    const { name, help, type } = this;
    const values = this.#servers.flatMap(([server, source]) =>
      this.#family.read(statsOf(source))!.map(({ suffix, value, labels }: Sample) => ({
        ...(suffix !== undefined && { metricName: name + suffix }),
        value,
        labels: { server, ...labels },
      })),
    );
    return { name, help, type, values, aggregator: 'sum' };
  }

  /** A server's numbers are its own: `registry.resetMetrics()` leaves them alone. */
  reset(): void {}
}

/**
 * Adds what `servers` count to a registry of prom-client (a package of its own: `npm install prom-client`), where each is
 * told from the others by the label `server`. Once for each registry and prefix.
 *
 * prom-client, because it is what programs that Prometheus scrapes have already; its metrics are asked for their values
 * at each scrape, which suits counters that live in memory of the addon. For OpenTelemetry read `stats` in the callback of
 * an observable counter.
 *
 * @param registry `register` of prom-client, or a `Registry` of your own
 * @param servers by the value of the label
 * @throws `ERR_INVALID_ARG_TYPE`; what `registerMetric` throws where a name is taken
 */
export function registerMetrics(
  registry: MetricsRegistry,
  servers: Readonly<Record<string, Measured>>,
  { prefix = 'original_dst_' }: MetricsOptions = {},
): void {
  if (typeof registry?.registerMetric !== 'function')
    throw invalidType('registry', "an instance of prom-client's Registry", registry);
  if (typeof servers !== 'object' || servers === null)
    throw invalidType('servers', 'of type object', servers);
  if (typeof prefix !== 'string' || !NAME.test(prefix))
    throw invalidType('options.prefix', 'the beginning of a metric name', prefix);
  const measured = Object.entries(servers);
  for (const [name, source] of measured) {
    if (typeof source !== 'object' || source === null || !('interceptStats' in source || 'stats' in source))
      throw invalidType(`servers.${name}`, 'a server or datagram socket of this package', source);
  }
  for (const family of FAMILIES) {
    const read = measured.filter(([, source]) => family.read(statsOf(source)) !== undefined);
    if (read.length > 0) registry.registerMetric(new StatsMetric(prefix, family, read) as never);
  }
}
