// As node-cached, and tells whoever has forked it its counters when asked. Usage: node-counted.js PORT
import { createRelayServer } from 'original-dst';

const server = createRelayServer({
  decide: ({ kind }) => (kind === 'redirect' ? { action: 'relay', ttl: 600_000 } : 'reset'),
});
server.listen(Number(process.argv[2]), '0.0.0.0');
server.once('listening', () => process.send!('listening'));
process.on('message', () => process.send!(server.stats));
