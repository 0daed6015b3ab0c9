// As node-cached, and tells whoever has forked it its counters when asked. Usage: node-counted.js PORT THREADS
import { createRelayServer } from 'original-dst';

const [port, threads] = process.argv.slice(2).map(Number) as [number, number];
const server = createRelayServer({
  threads,
  decide: ({ kind }) => (kind === 'redirect' ? { action: 'relay', ttl: 600_000 } : 'reset'),
});
server.listen(port, '0.0.0.0');
server.once('listening', () => process.send!('listening'));
process.on('message', () => process.send!(server.stats));
