// One of the relays of bench/udp.ts: what TPROXY leads here goes on to the server, each flow from a socket of its own. Prints
// its port, then, for each line on standard input, what it has passed on since the line before.
// Usage: udp-relay.js PORT [gro]
import { createDatagramSocket, type InterceptedDatagramSocket } from '../lib/index.ts';
import { tell } from './udp-teller.ts';

/** A burst of batches; the system's default has room for five. */
const RECEIVE_BUFFER = 1 << 21;

const [port, gro] = process.argv.slice(2);
const server = { address: '127.0.0.1', port: Number(port) };
const options = { address: '0.0.0.0', gro: gro === 'gro', receiveBufferSize: RECEIVE_BUFFER };
const upstreams = new Map<string, InterceptedDatagramSocket>();
let received = 0;

const proxy = createDatagramSocket({ ...options, transparent: true });
proxy.on('message', (data, info) => {
  if (info.kind !== 'tproxy') throw new Error(`${info.kind} from ${info.source.port}`);
  const { source, destination, size, segmentSize = size } = info;
  const flow = `${source.address} ${source.port} ${destination.address} ${destination.port}`;
  let upstream = upstreams.get(flow);
  if (upstream === undefined) {
    upstream = createDatagramSocket(options);
    upstreams.set(flow, upstream);
  }
  const error = upstream.send(data, { destination: server, segmentSize });
  if (error) throw error;
  received += Math.ceil(size / segmentSize);
});

tell(proxy.address().port, () => {
  const told = { received };
  received = 0;
  return told;
});
