// Routes TLS connections by the server name in their ClientHello, without a key and without touching a byte.
// Names with a route go there; all else (other names, no name, no TLS at all) goes to its true destination.
//
//   node sni-router.js [port] [name=address:port ...]
//   node sni-router.js 15001 shop.example=10.0.0.7:8443
//
// Rules as for redirect-proxy.
import { connect, type Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { createServer, type Endpoint, type InterceptedSocket } from 'original-dst';
import { getExtensionData, readTlsClientHello } from 'read-tls-client-hello';

/** A client that is silent for so long is dropped: it may be waiting for a server that speaks first (SSH, SMTP). */
const HELLO_TIMEOUT_MS = 5000;

const [port = '15001', ...routeArguments] = process.argv.slice(2);

const routes = new Map<string, Pick<Endpoint, 'address' | 'port'>>(
  routeArguments.map((argument) => {
    const [, name, address, port] = /^(.+?)=\[?(.+?)\]?:(\d+)$/.exec(argument) ?? [];
    if (!name || !address) throw new Error(`not name=address:port: ${argument}`);
    return [name.toLowerCase(), { address, port: Number(port) }];
  }),
);

/** The server name that the client asks for. What was read for that is put back into the socket. */
async function serverName(client: Socket): Promise<string | undefined> {
  client.setTimeout(HELLO_TIMEOUT_MS, () => client.destroy());
  try {
    const hello = await readTlsClientHello(client);
    return getExtensionData(hello, 'server_name')?.serverName?.toLowerCase();
  } catch {
    return undefined; // not TLS, or gone
  } finally {
    client.setTimeout(0);
  }
}

async function route(client: InterceptedSocket): Promise<void> {
  const { originalDst } = client;
  if (originalDst.kind === 'unknown' || originalDst.kind === 'direct') {
    client.resetAndDestroy(); // see redirect-proxy
    return;
  }
  const name = (await serverName(client)) ?? '';
  if (client.destroyed) return;
  const { address, port } = routes.get(name) ?? originalDst;
  console.log(`'${name}' for ${originalDst.address} ${originalDst.port} → ${address} ${port}`);

  const upstream = connect({ host: address, port, allowHalfOpen: true });
  const finished = (error?: Error | null): void => {
    if (error) console.log(`'${name}' failed: ${error.message}`);
  };
  pipeline(client, upstream, finished);
  pipeline(upstream, client, finished);
}

const server = createServer({ allowHalfOpen: true }, (client) => {
  client.on('error', () => {}); // also while nobody else is listening yet
  void route(client);
});

server.listen(Number(port), () => console.log('listening', server.address()));
