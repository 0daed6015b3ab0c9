// A service mesh's sidecar: stands where Envoy stands behind Istio's rules.
//
//   node sidecar.js
//
// INTERCEPTION_MODE  REDIRECT (default; run as user and group 1337) or TPROXY (user 0, group 1337, CAP_NET_ADMIN)
// DRAIN_SECONDS      how long connections may take to finish after SIGTERM; default 30
import { createServer as createAdmin } from 'node:http';
import {
  createServer,
  type ConnectOriginalOptions,
  type InterceptedSocket,
  type InterceptServer,
} from 'original-dst';
import { registerMetrics } from 'original-dst/metrics';
import { log } from './access-log.ts';
import { serve, sessions, type Direction } from './session.ts';
import { gauge, registry } from './stats.ts';

const OUTBOUND = 15001;
const INBOUND = 15006;
/** Excluded from capture by the rules. */
const ADMIN = 15020;
/** The mark of connections with a client's address, and of what answers them. */
const MARK = 1337;

const mode = process.env['INTERCEPTION_MODE'] ?? 'REDIRECT';
if (mode !== 'REDIRECT' && mode !== 'TPROXY')
  throw new Error(`INTERCEPTION_MODE is neither REDIRECT nor TPROXY: ${mode}`);
const drainSeconds = Number(process.env['DRAIN_SECONDS'] ?? 30);
if (!(drainSeconds >= 0)) throw new Error('DRAIN_SECONDS is not a number of seconds');

/** How the workload is dialled. From any other source the rules would send the dial back to the inbound listener. */
function inboundDial(client: InterceptedSocket): ConnectOriginalOptions {
  if (mode === 'TPROXY') return { preserveSource: true, mark: MARK };
  const { originalDst } = client;
  const v6 = originalDst.kind !== 'unknown' && originalDst.family === 'IPv6';
  return { source: { address: v6 ? '::6' : '127.0.0.6' } };
}

function listen(
  direction: Direction,
  port: number,
  dial: (client: InterceptedSocket) => ConnectOriginalOptions,
): InterceptServer {
  const transparent = direction === 'inbound' && mode === 'TPROXY';
  const server = createServer({ allowHalfOpen: true, transparent }, (client) => {
    void serve(direction, client, dial(client));
  });
  return server.listen(port) as InterceptServer;
}

const servers = {
  inbound: listen('inbound', INBOUND, inboundDial),
  outbound: listen('outbound', OUTBOUND, () => ({})),
};

let stopping = false;
// What the servers count; the label `server` is the direction.
registerMetrics(registry, servers);
gauge('sidecar_open', 'What is under way: TCP connections and HTTP clients.', () => sessions.size);
gauge('sidecar_draining', '1 after SIGTERM.', () => Number(stopping));

const admin = createAdmin((request, response) => {
  if (request.url === '/ready') {
    response.writeHead(stopping ? 503 : 200).end(stopping ? 'draining\n' : 'ready\n');
    return;
  }
  if (request.url !== '/metrics') {
    response.writeHead(404).end();
    return;
  }
  void registry.metrics().then((page) => response.setHeader('content-type', registry.contentType).end(page));
}).listen(ADMIN);

let listening = 0;
for (const server of [servers.inbound, servers.outbound, admin]) {
  server.on('listening', () => {
    if (++listening === 3) log({ event: 'ready', mode });
  });
}

async function drain(): Promise<void> {
  stopping = true;
  log({ event: 'draining', open: sessions.size });
  servers.inbound.close();
  servers.outbound.close();
  const deadline = performance.now() + drainSeconds * 1000;
  for (const session of sessions) session.drain();
  while (sessions.size > 0 && performance.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 50));
  const cut = sessions.size;
  for (const session of sessions) session.destroy();
  log({ event: 'stopped', cut });
  // The admin page's keep-alive connections are nobody's to wait for.
  process.exit();
}

process.once('SIGTERM', () => void drain());
process.once('SIGINT', () => void drain());
