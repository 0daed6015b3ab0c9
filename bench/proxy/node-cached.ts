// TypeScript decides once per destination; the thread accepts, dials and relays by that verdict.
// Usage: node-cached.js redirect|tproxy|ebpf PORT
import { createRelayServer } from 'original-dst';
import { listen } from './listen.ts';

const [mode, port] = process.argv.slice(2);
const server = createRelayServer({
  transparent: mode === 'tproxy',
  decide: ({ kind }) => (kind === mode ? { action: 'relay', ttl: 60_000 } : 'reset'),
});
listen(server, mode!, Number(port));
