// A relay for any UDP that a TPROXY (or REDIRECT) rule sends here: each flow gets a socket of its own towards its
// destination, and what comes back reaches the client from the address that it had sent to.
import { parseArgs } from 'node:util';
import {
  createDatagramSocket,
  type DatagramInfo,
  inspectQuic,
  type InterceptedDatagramSocket,
  NamePolicy,
} from 'original-dst';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '15001' },
    redirect: { type: 'boolean', default: false },
    mark: { type: 'string', default: '0' },
    timeout: { type: 'string', default: '30000' },
    'max-flows': { type: 'string', default: '1000' },
    'allow-name': { type: 'string', multiple: true },
  },
});
const allowed = values['allow-name'];
// Browsers send Encrypted Client Hello to every server, mostly with random content: the name beside it is what there is.
const policy = allowed && new NamePolicy({ allow: allowed, ech: 'outer' });
const mark = Number(values.mark);
const timeout = Number(values.timeout);
const maxFlows = Number(values['max-flows']);

/** Datagrams of one flow that came together: what they cost the kernel and this program is paid for once. */
interface Batch {
  data: Uint8Array;
  segmentSize: number;
}

/** A burst of batches; the system's default has room for five. */
const BUFFER = 1 << 21;

interface Flow {
  name: string;
  /** What the client has sent until it is decided. */
  waiting: Batch[];
  /** Undefined: it is not decided yet, or denied. */
  upstream: InterceptedDatagramSocket | undefined;
  denied: boolean;
  lastUsed: number;
  sent: number;
  received: number;
}

/** By client and destination, the one used last at the end. */
const flows = new Map<string, Flow>();

const proxy = createDatagramSocket({
  port: Number(values.port),
  transparent: !values.redirect,
  gro: true,
  receiveBufferSize: BUFFER,
  mark,
  maxReplySockets: maxFlows,
  replySocketTimeout: timeout,
});

function split({ data, segmentSize }: Batch): Uint8Array[] {
  const datagrams = [];
  for (let at = 0; at < data.length; at += segmentSize) datagrams.push(data.subarray(at, at + segmentSize));
  return datagrams;
}

function close(key: string, why: string): void {
  const { name, upstream, sent, received } = flows.get(key)!;
  flows.delete(key);
  upstream?.close();
  console.log(`${name} ${why}: sent ${sent}, received ${received}`);
}

type KnownInfo = Exclude<DatagramInfo, { kind: 'unknown' }>;

function begin({ source, destination, kind }: KnownInfo): Flow {
  const [oldest] = flows.keys();
  if (oldest !== undefined && flows.size >= maxFlows) close(oldest, 'made room');
  const name = `${source.address} ${source.port} → ${destination.address} ${destination.port} (${kind})`;
  const idle = { lastUsed: Date.now(), sent: 0, received: 0 };
  return { name, waiting: [], upstream: undefined, denied: false, ...idle };
}

function open(flow: Flow, info: KnownInfo): InterceptedDatagramSocket {
  const { destination } = info;
  const address = destination.family === 'IPv4' ? '0.0.0.0' : '::';
  const upstream = createDatagramSocket({ address, mark, gro: true, receiveBufferSize: BUFFER });
  upstream.on('message', (data, { source: from, size, segmentSize = size }) => {
    // Whoever guesses the port: not the one that was asked.
    if (from.address !== destination.address || from.port !== destination.port) return;
    flow.lastUsed = Date.now();
    flow.received += Math.ceil(size / segmentSize) || 1;
    const error = proxy.reply(data, info, segmentSize);
    if (error) console.error(error.message);
  });
  console.log(flow.name);
  return upstream;
}

/** By the name that a QUIC client asks for first: what else it sends from that port to that place is not looked at. */
function decide(flow: Flow, { destination }: KnownInfo): 'allow' | 'deny' | 'wait' {
  if (policy === undefined) return 'allow';
  const { complete, protocol, name, ech } = inspectQuic(flow.waiting.flatMap(split));
  if (!complete) return 'wait';
  const { address, port } = destination;
  const { allowed, because } = policy.explain({ address, port, name, ech, protocol });
  flow.name += ` ${name ?? 'no name'}`;
  if (!allowed) console.log(`${flow.name} denied: ${because}`);
  return allowed ? 'allow' : 'deny';
}

proxy.on('message', (data, info) => {
  const { kind, source, size, segmentSize = size } = info;
  if (kind === 'unknown') return console.error(`${source.address} ${source.port}: ${info.cause.message}`);
  // Sent to the proxy itself: relayed it would come back here.
  if (kind === 'direct') return console.error(`${source.address} ${source.port} sent to the proxy itself`);
  const key = `${source.address} ${source.port} ${info.destination.address} ${info.destination.port}`;
  const flow = flows.get(key) ?? begin(info);
  flows.delete(key);
  flows.set(key, flow);
  flow.lastUsed = Date.now();
  if (flow.denied) return;
  flow.waiting.push({ data, segmentSize });
  if (!flow.upstream) {
    const verdict = decide(flow, info);
    flow.denied = verdict === 'deny';
    if (verdict === 'allow') flow.upstream = open(flow, info);
    else if (verdict === 'wait') return;
  }
  for (const each of flow.waiting.splice(0)) {
    const { data, segmentSize } = each;
    const error = flow.upstream?.send(data, { destination: info.destination, segmentSize });
    if (error) console.error(error.message);
    else flow.sent += Math.ceil(data.length / segmentSize) || 1;
  }
});

setInterval(
  () => {
    const before = Date.now() - timeout;
    for (const [key, { lastUsed }] of flows) if (lastUsed < before) close(key, 'idle');
  },
  Math.min(timeout, 1000),
);

console.log(`listening on ${proxy.address().port}`);
