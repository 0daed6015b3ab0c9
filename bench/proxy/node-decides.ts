// TypeScript decides about every connection; the thread accepts, dials and relays.
// Usage: node-decides.js redirect|tproxy|ebpf PORT
import { createRelayServer } from 'original-dst';
import { listen } from './listen.ts';

const [mode, port] = process.argv.slice(2);
const server = createRelayServer({
  transparent: mode === 'tproxy',
  decide: ({ kind }) => (kind === mode ? 'relay' : 'reset'),
});
listen(server, mode!, Number(port));
