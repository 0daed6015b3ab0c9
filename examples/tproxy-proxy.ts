// A transparent TCP proxy behind TPROXY: every connection goes on to where the client was really going, and the
// server there sees the client's own address.
//
//   node tproxy-proxy.js [port]        (default 15006)
//
// It needs CAP_NET_ADMIN, and a host that the traffic passes both ways (a router): the server's answers are sent
// to the client's address and must come by here. The rules and routes (root, or a network namespace of your own):
//
//   nft 'table inet demo {
//     chain pre {
//       type filter hook prerouting priority mangle
//       meta l4proto tcp socket transparent 1 meta mark set 1 accept
//       tcp dport 80 tproxy to :15006 meta mark set 1 accept
//     }
//   }'
//   ip rule add fwmark 1 lookup 100
//   ip route add local default dev lo table 100
//   ip -6 rule add fwmark 1 lookup 100
//   ip -6 route add local default dev lo table 100
//
// The chain's first line is for the answers: they belong to a socket of this host, whatever their destination address says.
import { connectOriginal, createServer, relay } from 'original-dst';

const port = Number(process.argv[2] ?? 15006);

// transparent: IP_TRANSPARENT is set on the listening socket before the first client can arrive.
const server = createServer({ transparent: true, allowHalfOpen: true }, (client) => {
  const { originalDst } = client;
  const to = originalDst.kind === 'unknown' ? 'unknown' : `${originalDst.address} ${originalDst.port}`;
  const line = `${client.remoteAddress} ${client.remotePort} → ${to}`;

  // Dials the true destination from the client's address, with a port of the kernel's choice. What must not be
  // dialled (a loop, an unknown destination) is refused, and the client gets RST.
  const upstream = connectOriginal(client, { preserveSource: true, allowHalfOpen: true });
  upstream.on('error', (error) => console.log(`${line} failed: ${error.message}`));

  const pair = relay(client, upstream);
  pair.on('close', ({ reason }) => {
    console.log(`${line} ${reason}: sent ${pair.bytesToUpstream}, received ${pair.bytesToClient}`);
  });
});

server.on('error', (error) => {
  console.error(error.message); // without the capability: EPERM, with what to do about it
  process.exitCode = 1;
});
server.listen(port, () => console.log('listening', server.address()));
