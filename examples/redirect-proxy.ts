// A transparent TCP proxy behind REDIRECT: every connection goes on to where the client was really going.
//
//   node redirect-proxy.js [port]        (default 15001)
//
// It needs no rights. The rule that brings it traffic does (root, or a network namespace of your own):
//
//   nft 'table inet demo { chain out { type nat hook output priority -100;
//          meta skuid != 1337 tcp dport 80 redirect to :15001
//        } }'
//
// `skuid != 1337` keeps the proxy's own connections out of the proxy: run it as that user.
import { connect } from 'node:net';
import { pipeline } from 'node:stream';
import { createServer } from 'original-dst';

const port = Number(process.argv[2] ?? 15001);

// allowHalfOpen on both sides: a client that has sent all it has to say still wants to hear the answer.
const server = createServer({ allowHalfOpen: true }, (client) => {
  const { originalDst } = client;
  const from = `${client.remoteAddress} ${client.remotePort}`;

  // `direct` is somebody who dialled the proxy itself: going on to that address would be a loop.
  // `unknown` has a cause and no address. Neither is a reason to guess.
  if (originalDst.kind === 'unknown' || originalDst.kind === 'direct') {
    const why = originalDst.kind === 'unknown' ? originalDst.cause.message : 'nobody redirected it';
    console.log(`${from} refused: ${why}`);
    client.on('error', () => {}); // it may be gone already
    client.resetAndDestroy();
    return;
  }

  const { address, port } = originalDst;
  const upstream = connect({ host: address, port, allowHalfOpen: true });

  // One pipeline for each direction: the end of one is passed on as FIN and leaves the other one running; an
  // error on either side destroys both sockets.
  let open = 2;
  const finished = (error?: Error | null): void => {
    if (error) console.log(`${from} → ${address} ${port} failed: ${error.message}`);
    if (--open > 0) return;
    console.log(`${from} → ${address} ${port} sent ${client.bytesRead}, received ${client.bytesWritten}`);
  };
  pipeline(client, upstream, finished);
  pipeline(upstream, client, finished);
});

server.listen(port, () => console.log('listening', server.address()));
