// TypeScript decides by the name that the client asks for, about every connection or once per destination and name.
// Usage: node-names.js redirect|tproxy PORT each|lasting
import { createRelayServer } from 'original-dst';

const NAME = 'www.bench.example';

const [mode, port, how] = process.argv.slice(2);
const allowed = how === 'lasting' ? ({ action: 'relay', ttl: 60_000 } as const) : 'relay';
createRelayServer({
  transparent: mode === 'tproxy',
  inspect: { ports: [80, 443] },
  decide: (_destination, _client, first) => (first?.name === NAME ? allowed : 'reset'),
}).listen(Number(port), '0.0.0.0');
