// `--metrics`: what the proxy's server counts, over HTTP, for Prometheus.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { codedError } from '../errors.ts';
import { type Measured, registerMetrics } from '../metrics/index.ts';
import type { ListenAddress } from './arguments.ts';

type Client = Pick<typeof import('prom-client'), 'Registry' | 'collectDefaultMetrics'>;

/** prom-client is an optional peer: it is imported when it is asked for. */
async function loadClient(specifier: string): Promise<Client> {
  try {
    return (await import(specifier)) as Client;
  } catch (error) {
    throw codedError('ERR_METRICS_CLIENT_MISSING', '--metrics needs prom-client, which cannot be loaded', {
      cause: error,
      hint: 'npm install prom-client; with npx: npx -p original-dst -p prom-client original-dst proxy …',
    });
  }
}

/** Serves `GET /metrics` from then on, until it is closed; it keeps no process alive. */
export class MetricsServer {
  readonly address: AddressInfo;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    this.address = server.address() as AddressInfo;
  }

  static async start(
    { host, port }: ListenAddress,
    servers: Readonly<Record<string, Measured>>,
    specifier = 'prom-client',
  ): Promise<MetricsServer> {
    const { Registry, collectDefaultMetrics } = await loadClient(specifier);
    const registry = new Registry();
    collectDefaultMetrics({ register: registry });
    // Gauges that are named as counters: `promtool check metrics` has its doubts about them.
    for (const name of ['handles', 'requests', 'resources'])
      registry.removeSingleMetric(`nodejs_active_${name}_total`);
    registerMetrics(registry, servers);
    const answer = async ({ method, url }: IncomingMessage, response: ServerResponse): Promise<void> => {
      if (url?.split('?')[0] !== '/metrics') {
        response.writeHead(404).end();
      } else if (method !== 'GET' && method !== 'HEAD') {
        response.writeHead(405, { allow: 'GET, HEAD' }).end();
      } else {
        const text = await registry.metrics();
        response.setHeader('content-type', registry.contentType).end(text);
      }
    };
    const server = createServer((request, response) => void answer(request, response));
    server.listen(port, host);
    await once(server, 'listening');
    server.unref();
    return new MetricsServer(server);
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
