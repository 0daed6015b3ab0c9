// TypeScript decides, the native thread moves the bytes. Usage: node-relay.js redirect|tproxy PORT
import { connect } from 'node:net';
import { createServer, relay } from 'original-dst';

const [mode, port] = process.argv.slice(2);
createServer({ transparent: mode === 'tproxy', pauseOnConnect: true, noDelay: true }, (client) => {
  const { originalDst } = client;
  if (originalDst.kind === 'unknown' || originalDst.kind === 'direct') return client.resetAndDestroy();
  const { address: host, port } = originalDst;
  relay(client, connect({ host, port, noDelay: true }));
  return undefined;
}).listen({ port: Number(port), host: '0.0.0.0', backlog: 16384 });
