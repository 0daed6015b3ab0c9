// `original-dst proxy --metrics`: the numbers over HTTP, and what is said where prom-client is not there.
import t from 'tap';
import { MetricsServer } from '../../lib/cli/metrics-server.ts';
import { createRelayServer } from '../../lib/index.ts';
import { RunningCli } from '../fixtures/cli.ts';

const ANY = { host: '127.0.0.1', port: 0 };

t.test('GET /metrics, and nothing else', async (t) => {
  const server = createRelayServer({ decide: () => 'reset' });
  const metrics = await MetricsServer.start(ANY, { proxy: server });
  t.teardown(() => metrics.close());
  const url = `http://127.0.0.1:${metrics.address.port}`;
  const response = await fetch(`${url}/metrics?name=all`);
  t.match(response.headers.get('content-type'), /^text\/plain; version=0\.0\.4/);
  const text = await response.text();
  t.match(text, 'original_dst_relays_open{server="proxy"} 0\n');
  t.match(text, 'process_cpu_seconds_total', 'those of the process, too');
  t.same(text.match(/_total gauge$/m), null, 'a gauge is no total');
  t.equal((await fetch(`${url}/metrics`, { method: 'HEAD' })).status, 200);
  t.equal((await fetch(`${url}/metrics`, { method: 'POST' })).status, 405);
  t.equal((await fetch(url)).status, 404);
  await t.rejects(MetricsServer.start({ host: '127.0.0.1', port: metrics.address.port }, {}), {
    code: 'EADDRINUSE',
  });
});

t.test('the client is an optional peer', async (t) => {
  await t.rejects(MetricsServer.start(ANY, {}, 'no-such-package-of-metrics'), {
    code: 'ERR_METRICS_CLIENT_MISSING',
    message: /npm install prom-client/,
    cause: { code: 'ERR_MODULE_NOT_FOUND' },
  });
});

t.test('the command', async (t) => {
  const proxy = new RunningCli(t, ['proxy', '--listen', '127.0.0.1:0', '--metrics', '0']);
  const [, at] = await proxy.until('stderr', /metrics on http:\/\/(\S+)\n/);
  t.match(at, /^127\.0\.0\.1:\d+\/metrics$/, 'on the loopback interface unless told otherwise');
  t.match(
    await (await fetch(`http://${at}`)).text(),
    'original_dst_connections_accepted_total{server="proxy"} 0',
  );
  proxy.child.kill('SIGTERM');
  t.equal(await proxy.ended, 0);
});
