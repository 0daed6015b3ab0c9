// A transparent TCP proxy behind REDIRECT: every connection goes on to where the client was really going.
//
//   node redirect-proxy.js [port] [--no-relay]        (default 15001)
//
// It needs no rights. The rule that brings it traffic does (root, or a network namespace of your own):
//
//   nft 'table inet demo {
//     chain out {
//       type nat hook output priority -100
//       meta skuid != 1337 tcp dport 80 redirect to :15001
//     }
//   }'
//
// `skuid != 1337` keeps the proxy's own connections out of the proxy: run it as that user.
import { parseArgs } from 'node:util';
import { connectOriginal, createServer, relay } from 'original-dst';

const { values, positionals } = parseArgs({
  options: { 'no-relay': { type: 'boolean' } },
  allowPositionals: true,
});
const port = Number(positionals[0] ?? 15001);
// With --no-relay Node's streams move the bytes: to compare.
const engine = values['no-relay'] ? 'pipe' : 'native';

// allowHalfOpen on both sides: a client that has sent all it has to say still wants to hear the answer.
const server = createServer({ allowHalfOpen: true }, (client) => {
  const { originalDst } = client;
  const to = originalDst.kind === 'unknown' ? 'unknown' : `${originalDst.address} ${originalDst.port}`;
  const line = `${client.remoteAddress} ${client.remotePort} → ${to}`;

  // Dials the true destination. What must not be dialled is refused, never guessed: somebody who dialled the proxy
  // itself would make a loop, and of an unknown destination there is no address. The client then gets RST.
  const upstream = connectOriginal(client, { allowHalfOpen: true });
  upstream.on('error', (error) => console.log(`${line} failed: ${error.message}`));

  // Moves the bytes in the kernel, both ways, until both ends are done: FIN is passed on as FIN, RST as RST.
  const pair = relay(client, upstream, { engine });
  pair.on('close', ({ reason }) => {
    console.log(`${line} ${reason}: sent ${pair.bytesToUpstream}, received ${pair.bytesToClient}`);
  });
});

server.listen(port, () => console.log('listening', server.address()));
