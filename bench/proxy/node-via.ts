// TypeScript decides, Node's sockets go by way of a SOCKS5 proxy, the thread relays. Usage: node-via.js redirect PORT
import { createRelayServer, type ProxyServer } from 'original-dst';
import { SERVER, SOCKS_PORT } from './topology.ts';

const via: ProxyServer = { protocol: 'socks5', address: SERVER, port: SOCKS_PORT };
createRelayServer({
  decide: ({ kind }) => (kind === 'redirect' ? { action: 'relay', via } : 'reset'),
}).listen(Number(process.argv[3]), '0.0.0.0');
