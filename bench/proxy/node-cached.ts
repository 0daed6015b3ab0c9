// TypeScript decides once per destination; the thread accepts, dials and relays by that verdict.
// Usage: node-cached.js redirect|tproxy PORT
import { createRelayServer } from 'original-dst';

const [mode, port] = process.argv.slice(2);
createRelayServer({
  transparent: mode === 'tproxy',
  decide: ({ kind }) =>
    kind === 'redirect' || kind === 'tproxy' ? { action: 'relay', ttl: 60_000 } : 'reset',
}).listen(Number(port), '0.0.0.0');
