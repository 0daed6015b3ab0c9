// The relay thread goes by way of a SOCKS5 proxy. Usage: node-via.js redirect PORT each|lasting
import { createRelayServer, type ProxyServer } from 'original-dst';
import { SERVER, SOCKS_PORT } from './topology.ts';

const via: ProxyServer = { protocol: 'socks5', address: SERVER, port: SOCKS_PORT };
// TypeScript decides about each connection, or once for all.
const lasting = process.argv[4] === 'lasting' ? { ttl: 3_600_000 } : {};
createRelayServer({
  decide: ({ kind }) => (kind === 'redirect' ? { action: 'relay', via, ...lasting } : 'reset'),
}).listen(Number(process.argv[3]), '0.0.0.0');
