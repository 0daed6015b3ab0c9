// TypeScript decides, the native thread dials and moves the bytes. Usage: node-relay-to.js redirect|tproxy PORT
import { createServer, relay } from 'original-dst';

const [mode, port] = process.argv.slice(2);
createServer({ transparent: mode === 'tproxy', pauseOnConnect: true }, (client) => {
  const { originalDst } = client;
  if (originalDst.kind === 'unknown' || originalDst.kind === 'direct') return client.resetAndDestroy();
  relay(client, originalDst);
  return undefined;
}).listen({ port: Number(port), host: '0.0.0.0', backlog: 16384 });
