import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import t from 'tap';
import { createServer, type OriginalDst } from '../lib/index.ts';
import { defaultRoutes, inNamespace, nft } from './fixtures/netns.ts';

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  t.test('v4 redirected, both listener families', async (t) => {
    const server = createServer((socket) => socket.end(JSON.stringify(socket.originalDst)));
    server.listen(0);
    await once(server, 'listening');
    t.teardown(() => server.close());
    const { port } = server.address() as AddressInfo;
    nft(`table inet t {
      chain o {
        type nat hook output priority -100
        ip daddr 198.51.100.0/24 tcp dport 80 redirect to :${port}
      }
    }`);
    const socket = connect(80, '198.51.100.7');
    const [data] = await once(socket, 'data');
    const dst = JSON.parse(String(data)) as OriginalDst;
    t.same(dst, { kind: 'redirect', address: '198.51.100.7', port: 80, family: 'IPv4' });
  });
});
