// TypeScript decides about every connection; the thread accepts, dials and relays.
// Usage: node-decides.js redirect|tproxy PORT
import { createRelayServer } from 'original-dst';

const [mode, port] = process.argv.slice(2);
createRelayServer({
  transparent: mode === 'tproxy',
  decide: ({ kind }) => (kind === 'redirect' || kind === 'tproxy' ? 'relay' : 'reset'),
}).listen(Number(port), '0.0.0.0');
