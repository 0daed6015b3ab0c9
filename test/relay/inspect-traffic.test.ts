// Allowed and denied by name behind real rules: REDIRECT and TPROXY, IPv4 and IPv6, real clients.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import t from 'tap';
import { createRelayServer, type FirstBytes } from '../../lib/index.ts';
import { ADDRESSES, on, REDIRECT_PORT, SCRATCH, TPROXY_PORT } from '../../lib/demo/stage.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { startStage } from '../fixtures/stage.ts';

const run = promisify(execFile);

/** What a command on the client's host prints, or 'failed': it never gets an answer that is not the server's. */
async function client(...command: string[]): Promise<string> {
  const [file, args] = on('client', command);
  return run(file, args, { timeout: 30_000 }).then(
    ({ stdout }) => stdout,
    () => 'failed',
  );
}

const FETCH = `process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
const [url] = process.argv.slice(1);
fetch(url).then((answer) => answer.text()).then(console.log, () => process.exit(1));`;

await inNamespace(t, import.meta.url, async () => {
  await startStage(t);
  const seen: (FirstBytes | undefined)[] = [];
  const servers = await Promise.all(
    [REDIRECT_PORT, TPROXY_PORT].map(async (port) => {
      const server = createRelayServer({
        transparent: port === TPROXY_PORT,
        inspect: { ports: [80, 443, 2525], timeout: 500 },
        decide: (_destination, _client, first) => {
          seen.push(first);
          return first?.name === 'secure.example' || first?.protocol === 'silent' ? 'relay' : 'reset';
        },
      }).listen(port);
      await once(server, 'listening');
      return server;
    }),
  );
  t.teardown(() => servers.forEach((server) => server.destroy()));

  for (const family of ['IPv4', 'IPv6'] as const) {
    for (const way of ['redirect', 'tproxy'] as const) {
      const prefix = ADDRESSES[family][way];
      const literal = (host: number): string =>
        family === 'IPv6' ? `[${prefix}${host}]` : `${prefix}${host}`;
      t.test(`${way}, ${family}`, async (t) => {
        const curl = (url: string, host: number, port: number): Promise<string> => {
          const { hostname } = new URL(url);
          const to = `${hostname}:${port}:${literal(host)}`;
          return client('curl', '-s', '-m', '20', '-k', '--resolve', to, url);
        };
        t.match(await curl('https://secure.example/', 20, 443), `${literal(20)}:443`, 'curl, TLS');
        t.equal(await curl('https://other.example/', 20, 443), 'failed');
        t.match(await curl('http://secure.example/', 10, 80), `${literal(10)}:80`, 'curl, HTTP');
        t.equal(await curl('http://other.example/', 10, 80), 'failed');
        t.equal(await client('curl', '-s', '-m', '20', `http://${literal(10)}/`), 'failed', 'no name');

        const long = ['a', 'b', 'c'].map((letter) => letter.repeat(200)).join();
        const openssl = (name: string): Promise<string> =>
          client(
            'sh',
            '-c',
            `openssl s_client -connect ${literal(20)}:443 -servername ${name} -max_send_frag 512 -alpn ${long} </dev/null`,
          );
        // The server speaks none of these protocols: it says so, which is an answer of its own.
        seen.length = 0;
        await openssl('secure.example');
        const [first] = seen;
        t.match(first, { protocol: 'tls', name: 'secure.example' }, 'openssl, a hello of two records');
        t.equal(first?.bytes.readUInt16BE(3), 512);
        t.equal(
          await client(process.execPath, '-e', FETCH, `http://${literal(10)}/`),
          'failed',
          'fetch, no name',
        );
      });
    }
  }

  t.test('fetch, by name', async (t) => {
    const hosts = `${SCRATCH}/hosts`;
    const { redirect } = ADDRESSES.IPv4;
    await run('sh', [
      '-ec',
      // In this mount namespace alone.
      `printf '%s secure.example\\n%s other.example\\n' ${redirect}20 ${redirect}20 > ${hosts}; mount --bind ${hosts} /etc/hosts`,
    ]);
    t.match(await client(process.execPath, '-e', FETCH, 'https://secure.example/'), `${redirect}20:443`);
    t.equal(await client(process.execPath, '-e', FETCH, 'https://other.example/'), 'failed');
  });

  t.test('a server that speaks first costs its client one timeout', async (t) => {
    const BANNER = `require('net').createServer((s) => { s.on('error', () => {}); s.end('220 ready'); })
      .listen(2525, () => console.log('ready'))`;
    const [file, args] = on('server', [process.execPath, '-e', BANNER]);
    const banner = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => banner.kill());
    await once(banner.stdout, 'data');
    seen.length = 0;
    const ask = `require('net').connect(2525, process.argv[1]).on('data', (d) => console.log(String(d)))`;
    t.equal(await client(process.execPath, '-e', ask, `${ADDRESSES.IPv4.tproxy}30`), '220 ready\n');
    t.match(seen, [{ protocol: 'silent' }]);
  });
});
