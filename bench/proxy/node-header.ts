// The relay thread sends PROXY protocol headers, version 2. Usage: node-header.js redirect PORT
import { createRelayServer } from 'original-dst';
import { HEADER_PORT, SERVER } from './topology.ts';

const to = { address: SERVER, port: HEADER_PORT };
createRelayServer({
  decide: ({ kind }) =>
    kind === 'redirect' ? { action: 'relay', to, proxyProtocol: 2, ttl: 3_600_000 } : 'reset',
}).listen(Number(process.argv[3]), '0.0.0.0');
