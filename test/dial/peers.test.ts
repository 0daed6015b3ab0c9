// `npm run test:peers`: other people's proxies, before and behind this package. Not part of the suite, which has
// stand-ins for them: it installs six packages. As root: Squid gives up its rights to another user.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, BlockList, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import {
  clientOf,
  connectVia,
  createRelayServer,
  createServer,
  originalDst,
  proxyHeader,
  type ProxyError,
  type ProxiedDestination,
  type ProxyServer,
  type Relay,
  type RelayOutcome,
} from '../../lib/index.ts';
import { started } from '../fixtures/daemon.ts';
import { closed, failure } from '../fixtures/dialling.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { echoServer } from '../fixtures/proxies.ts';
import { start } from '../fixtures/relay-network.ts';

const directory = mkdtempSync(join(tmpdir(), 'original-dst-'));
t.teardown(() => rmSync(directory, { recursive: true }));

function file(name: string, content: string): string {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
}

async function until(socket: Socket, length: number): Promise<string> {
  let got = '';
  while (got.length < length) got += String(((await once(socket, 'data')) as [Buffer])[0]);
  return got;
}

async function through(t: Test, proxy: ProxyServer, destination: ProxiedDestination): Promise<void> {
  const where = `${proxy.protocol} ${JSON.stringify(destination)}`;
  const socket = connectVia(proxy, destination);
  socket.write('early ');
  t.equal(await until(socket, 15), 'greeting early ', where);
  const bulk = 'x'.repeat(1 << 20);
  socket.write(bulk);
  t.equal(await until(socket, bulk.length), bulk, `${where}: a MiB`);
  await closed(socket);
}

/** The same through the relay thread. `halfCloses`: the proxy passes FIN on, and not as the end of all. */
async function relayed(
  t: Test,
  via: ProxyServer,
  to: ProxiedDestination,
  halfCloses: boolean,
): Promise<void> {
  const where = `relayed, ${via.protocol} ${JSON.stringify(to)}`;
  const server = createRelayServer({ decide: () => ({ action: 'relay', via, to }) }).listen(0, '127.0.0.1');
  const socket = connect({ port: server.address()!.port, host: '127.0.0.1', allowHalfOpen: true });
  socket.write('early ');
  t.equal(await until(socket, 15), 'greeting early ', where);
  const bulk = 'x'.repeat(1 << 20);
  const all = until(socket, bulk.length);
  if (halfCloses) socket.end(bulk);
  else socket.write(bulk);
  t.equal(await all, bulk, `${where}: a MiB${halfCloses ? ' behind FIN' : ''}`);
  socket.end();
  if (!socket.readableEnded) await once(socket, 'end');
  server.close();
  await once(server, 'close');
  t.match(server.stats, {
    relayed: 1,
    failed: 0,
    bytesToUpstream: 6 + bulk.length,
    bytesToClient: 15 + bulk.length,
  });
}

/** What the relay thread says of a proxy that declines. */
async function declined(via: ProxyServer, to: ProxiedDestination): Promise<ProxyError> {
  const server = createRelayServer({ decide: () => ({ action: 'relay', via, to }) }).listen(0, '127.0.0.1');
  const relay = once(server, 'relay');
  const socket = connect(server.address()!.port, '127.0.0.1').on('error', () => {});
  const [joined] = (await relay) as [Relay];
  const how = joined.outcome ?? ((await once(joined, 'close')) as [RelayOutcome])[0];
  socket.destroy();
  server.close();
  await once(server, 'close');
  return (how as unknown as { error: ProxyError }).error;
}

const SQUID = (port: number, more: string): string => `
http_port 127.0.0.1:${port}
pid_filename none
cache deny all
access_log none
cache_log /dev/null
shutdown_lifetime 0 seconds
dns_timeout 1 second
${more}
`;
const DANTE = (port: number, method: string): string => `
logoutput: stderr
internal: 127.0.0.1 port = ${port}
external: lo
socksmethod: ${method}
clientmethod: none
user.privileged: root
user.unprivileged: root
client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
`;
const TINYPROXY = (port: number, more: string): string => `
Port ${port}
Listen 127.0.0.1
Timeout 60
MaxClients 20
${more}
`;

await inNamespace(
  t,
  import.meta.url,
  () => {
    sh(`
    printf '127.0.0.1 localhost echo.test\\n::1 six.test\\n' > /run/hosts
    mount --bind /run/hosts /etc/hosts
    printf 'root:x:0:0::/:/bin/sh\\nme:x:1000:1000::/:/bin/sh\\nproxy:x:13:13::/:/bin/sh\\nnobody:x:65534:65534::/:/bin/sh\\n' > /run/passwd
    printf "root:*:1::::::\\nme:$(openssl passwd -6 geheim):1::::::\\n" > /run/shadow
    mount --bind /run/passwd /etc/passwd
    mount --bind /run/shadow /etc/shadow
    touch /run/empty && mount --bind /run/empty /etc/resolv.conf
  `);

    t.test('microsocks, Dante, Squid, tinyproxy', async (t) => {
      const v4 = await echoServer(t, '127.0.0.1', 'greeting ');
      const v6 = await echoServer(t, '::1', 'greeting ');
      const password = { username: 'me', password: 'geheim' };
      await started(t, 1081, 'microsocks', '-i', '127.0.0.1', '-p', '1081');
      await started(t, 1082, 'microsocks', '-i', '127.0.0.1', '-p', '1082', '-u', 'me', '-P', 'geheim');
      await started(t, 1083, 'danted', '-f', file('danted.conf', DANTE(1083, 'none')));
      await started(t, 1084, 'danted', '-f', file('guarded-danted.conf', DANTE(1084, 'username')));
      await started(t, 3130, 'squid', '-N', '-f', file('squid.conf', SQUID(3130, 'http_access allow all')));
      // Where the user that Squid becomes may read it.
      const passwords = '/run/passwords';
      writeFileSync(passwords, `me:${sh('openssl passwd -apr1 geheim').trim()}\n`, { mode: 0o644 });
      const basic = `auth_param basic program /usr/lib/squid/basic_ncsa_auth ${passwords}
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all`;
      await started(t, 3131, 'squid', '-N', '-f', file('guarded-squid.conf', SQUID(3131, basic)));
      await started(t, 3128, 'tinyproxy', '-d', '-c', file('tinyproxy.conf', TINYPROXY(3128, '')));
      const guarded = file('guarded.conf', TINYPROXY(3129, 'BasicAuth me geheim'));
      await started(t, 3129, 'tinyproxy', '-d', '-c', guarded);
      const all: [string, ProxyServer, boolean][] = [
        ['microsocks', { protocol: 'socks5', address: '127.0.0.1', port: 1081 }, true],
        ['microsocks', { protocol: 'socks5', address: '127.0.0.1', port: 1082, ...password }, true],
        ['Dante', { protocol: 'socks5', address: '127.0.0.1', port: 1083 }, false],
        ['Dante', { protocol: 'socks5', address: '127.0.0.1', port: 1084, ...password }, false],
        ['Squid', { protocol: 'http', address: '127.0.0.1', port: 3130 }, true],
        ['Squid', { protocol: 'http', address: '127.0.0.1', port: 3131, ...password }, true],
        ['tinyproxy', { protocol: 'http', address: '127.0.0.1', port: 3128 }, true],
        ['tinyproxy', { protocol: 'http', address: '127.0.0.1', port: 3129, ...password }, true],
      ];
      for (const [name, proxy, six] of all) {
        t.comment(name);
        await through(t, proxy, { address: '127.0.0.1', port: v4.port });
        await through(t, proxy, { name: 'echo.test', port: v4.port });
        await relayed(t, proxy, { address: '127.0.0.1', port: v4.port }, name === 'Dante');
        await relayed(t, proxy, { name: 'echo.test', port: v4.port }, name === 'Dante');
        if (six) {
          await through(t, proxy, { address: '::1', port: v6.port });
          await through(t, proxy, { name: 'six.test', port: v6.port });
        }
        const nobody = (await failure(
          connectVia(proxy, { address: '127.0.0.1', port: 1 }),
        )) as unknown as ProxyError;
        t.equal(nobody.code, 'ERR_PROXY_REFUSED', `${name}: ${nobody.message}`);
        const nowhere = await failure(connectVia(proxy, { name: 'nowhere.invalid', port: 1 }));
        t.equal(nowhere.code, 'ERR_PROXY_REFUSED', `${name}: ${nowhere.message}`);
        const { code, proxyStatus, message } = await declined(proxy, { name: 'nowhere.invalid', port: 1 });
        t.same([code, proxyStatus], [nowhere.code, (nowhere as unknown as ProxyError).proxyStatus], message);
      }
      for (const [name, { username: _, password: __, ...proxy }] of all.filter(
        ([, { username }]) => username,
      )) {
        const to = { address: '127.0.0.1', port: v4.port };
        t.equal((await failure(connectVia(proxy, to))).code, 'ERR_PROXY_AUTH', `${name}: no password`);
        const wrong = { ...proxy, username: 'me', password: 'falsch' };
        t.equal((await failure(connectVia(wrong, to))).code, 'ERR_PROXY_AUTH', `${name}: a wrong one`);
        t.equal((await declined(wrong, to)).code, 'ERR_PROXY_AUTH', `${name}: a wrong one, relayed`);
      }
    });

    t.test('HAProxy in front: send-proxy, send-proxy-v2', async (t) => {
      const from = new BlockList();
      from.addAddress('127.0.0.1');
      const server = createServer({ proxyProtocol: { from }, allowHalfOpen: true }, (socket) => {
        const { kind, address, port } = originalDst(socket) as {
          kind: string;
          address: string;
          port: number;
        };
        const { version, tlvs, uniqueId } = proxyHeader(socket)!;
        const client = clientOf(socket)!;
        const types = tlvs.map(({ type }) => type).sort();
        socket.on('error', () => {});
        socket.end(
          JSON.stringify({
            kind,
            address,
            port,
            version,
            types,
            uniqueId: uniqueId && String(uniqueId),
            client,
          }),
        );
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      t.teardown(() => void server.close());
      const { port } = server.address() as AddressInfo;
      const sends = ['send-proxy', 'send-proxy-v2', 'send-proxy-v2 proxy-v2-options crc32c,unique-id'];
      const config = sends.map(
        (send, i) => `
listen l${i}
  bind 127.0.0.1:${8001 + i}
  bind [::1]:${8001 + i}
  mode tcp
  unique-id-format %pid-%ci-%cp
  server s 127.0.0.1:${port} ${send}
`,
      );
      const defaults = 'defaults\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n';
      await started(t, 8001, 'haproxy', '-db', '-q', '-f', file('front.cfg', defaults + config.join('')));
      for (const [i] of sends.entries()) {
        for (const host of ['127.0.0.1', '::1']) {
          const socket = connect(8001 + i, host);
          await once(socket, 'connect');
          const { localPort } = socket;
          const said = JSON.parse(await text(socket)) as object;
          t.match(said, {
            kind: 'proxy',
            address: host,
            port: 8001 + i,
            version: i === 0 ? 1 : 2,
            client: { address: host, port: localPort },
            types: i === 2 ? [3, 5] : [],
          });
        }
      }
      t.match(server.interceptStats.refused, {});
    });

    t.test('HAProxy accept-proxy and nginx proxy_protocol behind', async (t) => {
      const haproxy = `
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
frontend f
  bind 127.0.0.1:8011 accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority] %[fc_pp_unique_id,length]\\n"
`;
      const nginx = `
daemon off; user root; pid ${directory}/nginx.pid; error_log stderr;
events {}
http {
  access_log off;
  server {
    listen 127.0.0.1:8012 proxy_protocol;
    return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port\\n";
  }
}
`;
      await started(t, 8011, 'haproxy', '-db', '-q', '-f', file('behind.cfg', haproxy));
      await started(t, 8012, 'nginx', '-c', file('nginx.conf', nginx));
      // Both ends are this namespace's own; what is dialled from one to the other is redirected.
      for (const address of ['192.0.2.1', '198.51.100.7', '2001:db8::1', '2001:db8:1::7'])
        sh(`ip addr add ${address} dev lo`);
      nft(`table inet t {
      chain o {
        type nat hook output priority -100
        meta mark 7 accept
        tcp dport 443 redirect to :15001
      }
    }`);
      for (const version of [1, 2] as const) {
        for (const port of [8011, 8012]) {
          const server = await start({
            mark: 7,
            inspect: { ports: [443] },
            decide: () => ({
              action: 'relay',
              to: { address: '127.0.0.1', port },
              proxyProtocol: version,
              ttl: 60_000,
            }),
          });
          for (const [client, destination] of [
            ['192.0.2.1', '198.51.100.7'],
            ['2001:db8::1', '2001:db8:1::7'],
          ] as const) {
            const socket = connect({ host: destination, port: 443, localAddress: client });
            await once(socket, 'connect');
            const { localPort } = socket;
            socket.write('GET / HTTP/1.0\r\nHost: example.com\r\n\r\n');
            const told = version === 2 && port === 8011 ? ' example.com 16\n' : '';
            t.match(
              await text(socket),
              `${client} ${localPort} ${destination} 443${told}`,
              `${port}, version ${version}`,
            );
          }
          server.close();
          await once(server, 'close');
        }
      }
    });
  },
  { root: true },
);
