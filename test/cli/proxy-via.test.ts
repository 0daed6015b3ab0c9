// `original-dst proxy --via`: what is captured goes by way of another proxy.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { promisify } from 'node:util';
import t from 'tap';
import { proxyServer } from '../../lib/cli/arguments.ts';
import { end, running, setUp } from '../fixtures/far-network.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { standInProxy } from '../fixtures/proxies.ts';

// Not synchronously: the proxy runs in here.
const run = promisify(execFile);

t.test('the URL of a proxy', (t) => {
  const cases: [string, object][] = [
    ['socks5://127.0.0.1', { protocol: 'socks5', address: '127.0.0.1', port: 1080 }],
    ['http://proxy.example:3128/', { protocol: 'http', address: 'proxy.example', port: 3128 }],
    ['http://[2001:db8::1]', { protocol: 'http', address: '2001:db8::1', port: 80 }],
    [
      'socks5://m%40e:p%3Aw@[::1]:9',
      { protocol: 'socks5', address: '::1', port: 9, username: 'm@e', password: 'p:w' },
    ],
  ];
  for (const [text, server] of cases) t.same(proxyServer(text), server);
  t.end();
});

await inNamespace(t, import.meta.url, async () => {
  const web = await setUp();
  t.teardown(() => web.kill());
  const near = createServer((_, response) => response.end('by way of the proxy')).listen(80, '127.0.0.1');
  await once(near, 'listening');
  t.teardown(() => near.close());

  for (const [protocol, flags] of [
    ['socks5', []],
    ['http', ['--no-relay']],
  ] as const)
    t.test(`${protocol} ${flags.join(' ')}`, async (t) => {
      // Dialled on to loopback, which is not captured.
      const names = { '198.51.100.7': '127.0.0.1' };
      const { asked, port } = await standInProxy(t, protocol, { username: 'me', password: 'x', names });
      const url = `${protocol}://me:x@127.0.0.1:${port}`;
      const proxy = await running(t, '--with-rules', '--via', url, ...flags);
      const { stdout } = await run('curl', ['-sS', '-m', '20', '--noproxy', '*', 'http://198.51.100.7/']);
      t.equal(stdout, 'by way of the proxy');
      t.same(asked, ['198.51.100.7:80']);
      await proxy.until('stdout', /198\.51\.100\.7:80 redirect .* end\n/);
      t.equal(await end(proxy, 'SIGINT'), 0);
    });
});
