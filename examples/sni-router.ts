// Routes TLS connections by the server name in their ClientHello, without a key and without touching a byte.
// Names with a route go there; all else (other names, no name, no TLS at all) goes to its true destination.
//
//   node sni-router.js [port] [name=address:port ...]
//   node sni-router.js 15001 shop.example=10.0.0.7:8443
//
// Rules as for redirect-proxy.
import { createRelayServer, type Endpoint, type FirstBytes } from 'original-dst';

const [port = '15001', ...routeArguments] = process.argv.slice(2);

const routes = new Map<string, Pick<Endpoint, 'address' | 'port'>>(
  routeArguments.map((argument) => {
    const [, name, address, port] = /^(.+?)=\[?(.+?)\]?:(\d+)$/.exec(argument) ?? [];
    if (!name || !address) throw new Error(`not name=address:port: ${argument}`);
    return [name.toLowerCase(), { address, port: Number(port) }];
  }),
);

function serverName(first: FirstBytes | undefined): string {
  return (first?.protocol === 'tls' && first.name) || '';
}

const server = createRelayServer({
  // A client that says nothing may be waiting for a server that speaks first (SSH, SMTP): a second is enough to know.
  inspect: { timeout: 1000 },
  decide: (_destination, _client, first) => {
    const to = routes.get(serverName(first));
    return to ? { action: 'relay', to } : 'relay';
  },
});

server.on('relay', (relay, destination, _client, first) => {
  const name = serverName(first);
  const to = routes.get(name);
  const dialled = destination.kind === 'unknown' ? 'unknown' : `${destination.address} ${destination.port}`;
  const line = `'${name}' for ${dialled} → ${to ? `${to.address} ${to.port}` : 'there'}`;
  relay.on('close', (outcome) => {
    console.log(
      outcome.reason === 'error' ? `${line} failed: ${outcome.error.message}` : `${line} ${outcome.reason}`,
    );
  });
});

server.on('error', (error) => console.error(error));
server.listen(Number(port)).on('listening', () => console.log('listening', server.address()));
