// registerMetrics(): what servers count, in the text that Prometheus scrapes.
import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import { Registry } from 'prom-client';
import t from 'tap';
import { createDatagramSocket, createRelayServer, createServer } from '../../lib/index.ts';
import { type Measured, registerMetrics } from '../../lib/metrics/index.ts';

/** The samples of an exposition: `{ 'name{labels}': value }`. */
function samples(text: string): Record<string, number> {
  const found: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const [, key, value] = /^([a-z_]+(?:\{[^}]*\})?) (\S+)$/.exec(line) ?? [];
    if (key !== undefined) found[key] = Number(value);
  }
  return found;
}

t.test('servers and sockets of all kinds, side by side', async (t) => {
  const plain = createServer((socket) => socket.destroy());
  const relays = createRelayServer({ decide: () => 'reset' });
  const datagrams = createDatagramSocket({ address: '127.0.0.1' });
  t.teardown(() => [plain.close(), relays.destroy(), datagrams.close()]);
  const registry = new Registry();
  registerMetrics(registry, { plain, relays, datagrams });

  for (const server of [plain, relays]) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
    await new Promise((resolve) => client.once('close', resolve));
  }
  const text = await registry.metrics();
  const read = samples(text);
  t.equal(read['original_dst_connections_total{server="plain",kind="direct"}'], 1);
  t.equal(read['original_dst_connections_total{server="plain",kind="redirect"}'], 0);
  t.equal(read['original_dst_connections_total{server="relays",kind="direct"}'], 1);
  t.equal(read['original_dst_connections_accepted_total{server="relays"}'], 1);
  t.equal(read['original_dst_connections_reset_total{server="relays"}'], 1);
  t.equal(read['original_dst_decisions_total{server="relays"}'], 1);
  t.equal(read['original_dst_relays_open{server="relays"}'], 0);
  t.equal(read['original_dst_relay_bytes_total{server="relays",direction="to_client"}'], 0);
  t.equal(read['original_dst_datagrams_total{server="datagrams",kind="tproxy"}'], 0);
  t.notMatch(text, 'original_dst_relays_total{server="plain"}', 'a server has the metrics of its kind alone');
  t.match(text, /# HELP original_dst_relays_open .+\n# TYPE original_dst_relays_open gauge/);
});

t.test('every number of the stats is told', async (t) => {
  const interceptStats = {
    redirect: 1,
    tproxy: 2,
    ebpf: 25,
    proxy: 28,
    direct: 3,
    unknown: 4,
    reset: 5,
    errors: { ENOENT: 6, EADDRINUSE: 7 },
    refused: { ERR_INTERCEPT_LOOP: 8 },
  };
  const counts = { accepted: 9, undecided: 10, relayed: 11, failed: 12, gone: 13, open: 14 };
  const histogram = (first: number) => ({ bounds: [250, 4000], counts: [first, 1, 1], sum: 29_500 });
  const relays: Measured = {
    stats: {
      ...interceptStats,
      ...counts,
      bytesToUpstream: 15,
      bytesToClient: 16,
      inspecting: 27,
      connectMs: histogram(100),
      durationMs: histogram(200),
      recordsDropped: 29,
      acceptedByThread: [9],
    },
  };
  const datagrams: Measured = {
    stats: {
      redirect: 17,
      tproxy: 18,
      ebpf: 26,
      direct: 19,
      unknown: 20,
      truncated: 21,
      dropped: 22,
      errors: { ENOBUFS: 23 },
      replySockets: 24,
    },
  };
  const registry = new Registry();
  registerMetrics(registry, { relays, datagrams }, { prefix: 'p_' });
  registry.resetMetrics();
  const read = samples(await registry.metrics());
  const plain = Object.entries(read).filter(([name]) => !name.includes('_seconds_'));
  t.same(
    plain.map(([, value]) => value).sort((a, b) => a - b),
    Array.from({ length: 29 }, (_, index) => index + 1),
  );
  for (const [name, first] of [
    ['connect', 100],
    ['duration', 200],
  ] as const) {
    const metric = `p_relay_${name}_seconds`;
    t.equal(read[`${metric}_bucket{server="relays",le="0.25"}`], first);
    t.equal(read[`${metric}_bucket{server="relays",le="4"}`], first + 1, 'with those of the smaller ones');
    t.equal(read[`${metric}_bucket{server="relays",le="+Inf"}`], first + 2);
    t.equal(read[`${metric}_count{server="relays"}`], first + 2);
    t.equal(read[`${metric}_sum{server="relays"}`], 29.5, 'in seconds');
  }
  t.equal(read['p_connection_errors_total{server="relays",code="EADDRINUSE"}'], 7);
  t.equal(read['p_connections_refused_total{server="relays",code="ERR_INTERCEPT_LOOP"}'], 8);
  t.equal(read['p_datagram_errors_total{server="datagrams",code="ENOBUFS"}'], 23);
});

t.test('OpenMetrics', async (t) => {
  const registry = new Registry();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never);
  registerMetrics(registry, { plain: createServer() });
  const text = await registry.metrics();
  t.match(text, '# TYPE original_dst_connections counter\n');
  t.match(text, 'original_dst_connections_total{server="plain",kind="direct"} 0\n');
  t.ok(text.endsWith('# EOF\n'));
});

t.test('bad arguments', (t) => {
  const registry = new Registry();
  const code = 'ERR_INVALID_ARG_TYPE';
  t.throws(() => registerMetrics(undefined as never, {}), { code });
  t.throws(() => registerMetrics({} as never, {}), { code });
  t.throws(() => registerMetrics(registry, null as never), { code });
  t.throws(() => registerMetrics(registry, { a: null as never }), { code });
  t.throws(() => registerMetrics(registry, { a: {} as never }), { code });
  t.throws(() => registerMetrics(registry, 7 as never), { code });
  t.throws(() => registerMetrics(registry, {}, { prefix: 'no spaces' }), { code });
  t.throws(() => registerMetrics(registry, {}, { prefix: 7 as never }), { code });
  registerMetrics(registry, { plain: createServer() });
  t.throws(() => registerMetrics(registry, { other: createServer() }), /already been registered/);
  t.end();
});
