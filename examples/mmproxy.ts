// What mmproxy does: behind a proxy that sends PROXY protocol headers, in front of a server that knows nothing of them
// and yet sees each client's own address.
//
//   node mmproxy.js [port] [server's port] [proxy's address]        (default 8080 9000 127.0.0.1)
//
// It needs CAP_NET_ADMIN. The server is on this host, at 127.0.0.1; its answers go to the client's address and must come
// back here. The routes (root, or a network namespace of your own):
//
//   ip rule add from 127.0.0.1/8 iif lo lookup 123
//   ip route add local default dev lo table 123
import { BlockList, isIPv6 } from 'node:net';
import { clientOf, connect, createServer, relay } from 'original-dst';

const [port = 8080, serverPort = 9000] = process.argv.slice(2).map(Number);
const proxy = process.argv[4] ?? '127.0.0.1';

// A header is demanded of this peer, and of nobody else.
const from = new BlockList();
from.addAddress(proxy, isIPv6(proxy) ? 'ipv6' : 'ipv4');

const server = createServer({ proxyProtocol: { from }, allowHalfOpen: true }, (socket) => {
  // Without a header (it is not from the proxy) or with one that names nobody, the peer is the client.
  const client = clientOf(socket);
  if (client?.family !== 'IPv4') {
    socket.resetAndDestroy(); // 127.0.0.1 cannot be dialled from an IPv6 address
    return;
  }
  const upstream = connect({
    address: '127.0.0.1',
    port: serverPort,
    source: { address: client.address },
    transparent: true,
    allowHalfOpen: true,
  });
  upstream.on('error', (error) => console.log(`${client.address}: ${error.message}`));
  relay(socket, upstream).on('close', ({ reason }) =>
    console.log(`${client.address} ${client.port} ${reason}`),
  );
});
server.listen(port, () => console.log('listening', server.address()));
