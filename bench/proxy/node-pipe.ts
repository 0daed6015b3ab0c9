// The plain way in Node: two pipes through JavaScript. Usage: node-pipe.js redirect|tproxy PORT
import { connect } from 'node:net';
import { createServer } from 'original-dst';

const [mode, port] = process.argv.slice(2);
createServer({ transparent: mode === 'tproxy', allowHalfOpen: true, noDelay: true }, (client) => {
  const { originalDst } = client;
  if (originalDst.kind === 'unknown' || originalDst.kind === 'direct') return client.resetAndDestroy();
  const upstream = connect({
    host: originalDst.address,
    port: originalDst.port,
    allowHalfOpen: true,
    noDelay: true,
  });
  client.on('error', () => upstream.destroy());
  upstream.on('error', () => client.destroy());
  client.pipe(upstream).pipe(client);
  return undefined;
}).listen({ port: Number(port), host: '0.0.0.0', backlog: 16384 });
