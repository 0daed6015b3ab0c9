// A relay for any UDP that a TPROXY (or REDIRECT) rule sends here: each flow gets a socket of its own towards its
// destination, and what comes back reaches the client from the address that it had sent to.
import { parseArgs } from 'node:util';
import { createDatagramSocket, type DatagramInfo, type InterceptedDatagramSocket } from 'original-dst';

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '15001' },
    redirect: { type: 'boolean', default: false },
    mark: { type: 'string', default: '0' },
    timeout: { type: 'string', default: '30000' },
    'max-flows': { type: 'string', default: '1000' },
  },
});
const mark = Number(values.mark);
const timeout = Number(values.timeout);
const maxFlows = Number(values['max-flows']);

interface Flow {
  name: string;
  upstream: InterceptedDatagramSocket;
  lastUsed: number;
  sent: number;
  received: number;
}

/** By client and destination, the one used last at the end. */
const flows = new Map<string, Flow>();

const proxy = createDatagramSocket({
  port: Number(values.port),
  transparent: !values.redirect,
  mark,
  maxReplySockets: maxFlows,
  replySocketTimeout: timeout,
});

function close(key: string, why: string): void {
  const { name, upstream, sent, received } = flows.get(key)!;
  flows.delete(key);
  upstream.close();
  console.log(`${name} ${why}: sent ${sent}, received ${received}`);
}

function open(info: Exclude<DatagramInfo, { kind: 'unknown' }>): Flow {
  const { source, destination, kind } = info;
  const [oldest] = flows.keys();
  if (oldest !== undefined && flows.size >= maxFlows) close(oldest, 'made room');
  const upstream = createDatagramSocket({ address: destination.family === 'IPv4' ? '0.0.0.0' : '::', mark });
  const name = `${source.address} ${source.port} → ${destination.address} ${destination.port} (${kind})`;
  const flow = { name, upstream, lastUsed: Date.now(), sent: 0, received: 0 };
  upstream.on('message', (data, { source: from }) => {
    // Whoever guesses the port: not the one that was asked.
    if (from.address !== destination.address || from.port !== destination.port) return;
    flow.lastUsed = Date.now();
    flow.received++;
    const error = proxy.reply(data, info);
    if (error) console.error(error.message);
  });
  console.log(name);
  return flow;
}

proxy.on('message', (data, info) => {
  const { kind, source } = info;
  if (kind === 'unknown') return console.error(`${source.address} ${source.port}: ${info.cause.message}`);
  // Sent to the proxy itself: relayed it would come back here.
  if (kind === 'direct') return console.error(`${source.address} ${source.port} sent to the proxy itself`);
  const key = `${source.address} ${source.port} ${info.destination.address} ${info.destination.port}`;
  const flow = flows.get(key) ?? open(info);
  flows.delete(key);
  flows.set(key, flow);
  flow.lastUsed = Date.now();
  const error = flow.upstream.send(data, { destination: info.destination });
  if (error) console.error(error.message);
  else flow.sent++;
});

setInterval(
  () => {
    const before = Date.now() - timeout;
    for (const [key, { lastUsed }] of flows) if (lastUsed < before) close(key, 'idle');
  },
  Math.min(timeout, 1000),
);

console.log(`listening on ${proxy.address().port}`);
