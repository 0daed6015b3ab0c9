// Routes TLS connections by the server name in their ClientHello, without a key and without touching a byte.
// Names with a route go there; all else (other names, no name, no TLS at all) goes to its true destination.
//
//   node sni-router.js [port] [name=address:port ...]
//   node sni-router.js 15001 shop.example=10.0.0.7:8443
//
// Rules as for redirect-proxy.
import type { Socket } from 'node:net';
import {
  connect,
  connectOriginal,
  createServer,
  relay,
  type Endpoint,
  type InterceptedSocket,
} from 'original-dst';
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
  const name = (await serverName(client)) ?? '';
  const target = routes.get(name);
  const half = { allowHalfOpen: true };
  // No route: on to the true destination, with RST for the client if that is unknown or this router itself.
  const upstream = target ? connect({ ...target, ...half }) : connectOriginal(client, half);

  const { originalDst } = client;
  const dialled = originalDst.kind === 'unknown' ? 'unknown' : `${originalDst.address} ${originalDst.port}`;
  const line = `'${name}' for ${dialled} → ${target ? `${target.address} ${target.port}` : 'there'}`;
  upstream.on('error', (error) => console.log(`${line} failed: ${error.message}`));
  relay(client, upstream).on('close', ({ reason }) => console.log(`${line} ${reason}`));
}

const server = createServer({ allowHalfOpen: true }, (client) => {
  client.on('error', () => {}); // also while nobody else is listening yet
  void route(client);
});

server.listen(Number(port), () => console.log('listening', server.address()));
