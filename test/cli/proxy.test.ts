// `original-dst proxy` on real traffic, with rules of its own, and what is left when it has gone.
import t from 'tap';
import { diagnose, type Finding } from '../../lib/doctor/index.ts';
import { cliBatch, type RunningCli } from '../fixtures/cli.ts';
import { curl, end, killAll, running, setUp } from '../fixtures/far-network.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { traces } from '../fixtures/traces.ts';

/** What differs from one proxy to the next: its port, and how the record names its process. */
const OF_ONE_PROXY = /:\d{4,5}\b|held [\d ]+/g;

/** What the doctor holds against a running proxy. */
async function problems(proxy: RunningCli, mode: 'redirect' | 'tproxy'): Promise<Finding[]> {
  const [, port] = await proxy.until('stderr', /:(\d+) \(/);
  return (await diagnose({ port: Number(port), mode })).filter(({ level }) => level === 'problem');
}

await inNamespace(t, import.meta.url, async () => {
  let installed = '';
  const web = await setUp();
  t.teardown(() => web.kill());

  t.test('nothing but --with-rules, and nothing left behind after Ctrl-C', async (t) => {
    const before = traces();
    const proxy = await running(t, '--with-rules', '--log', 'json');
    installed = traces();
    t.not(installed, before, 'there are rules');
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1');
    t.equal(curl('http://[2001:db8:6::7]/'), '2001:db8:5::1');
    await proxy.until('stdout', /"2001:db8.*\n|\[2001:db8:6::7\]:80.*\n/);
    const records = proxy.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    t.match(records, [
      { client: /^10\.1\.0\.1:\d+$/, destination: '198.51.100.7:80', kind: 'redirect', reason: 'end' },
      {
        client: /^\[2001:db8:5::1\]:\d+$/,
        destination: '[2001:db8:6::7]:80',
        kind: 'redirect',
        reason: 'end',
      },
    ]);
    for (const { bytesToUpstream, bytesToClient, durationMs, time } of records) {
      t.ok((bytesToUpstream as number) > 50 && (bytesToClient as number) > 50 && (durationMs as number) >= 0);
      t.match(time, /^\d{4}-\d\d-\d\dT.*Z$/);
    }
    t.same(await problems(proxy, 'redirect'), []);
    t.equal(await end(proxy, 'SIGINT'), 0);
    t.equal(traces(), before);
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1', 'the way is free again');
  });

  t.test('kill -9, and a start after it', async (t) => {
    const before = traces();
    const killed = await running(t, '--with-rules', '--mode', 'tproxy');
    await killAll(killed);
    t.not(traces(), before, 'what was killed could not clean up');
    const next = await running(t, '--with-rules');
    t.equal(
      traces().replaceAll(OF_ONE_PROXY, ''),
      installed.replaceAll(OF_ONE_PROXY, ''),
      'only the new rules are there',
    );
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1');
    t.equal(await end(next, 'SIGINT'), 0);
    t.equal(traces(), before);
  });

  t.test('two at once', async (t) => {
    const before = traces();
    const first = await running(t, '--with-rules', '--ports', '80');
    const during = traces();
    const [second] = cliBatch(['proxy --listen 0 --with-rules --ports 81']);
    t.equal(second!.status, 1);
    t.match(second!.stderr, new RegExp(`process ${first.child.pid} holds the rules called proxy: \\S*node `));
    t.equal(traces(), during, 'the first one’s rules are there');
    const other = await running(t, '--with-rules', '--ports', '81', '--name', 'other');
    t.equal(await end(other, 'SIGINT'), 0);
    t.equal(traces(), during, 'the other one has gone with its own');
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1');
    t.equal(await end(first, 'SIGINT'), 0);
    t.equal(traces(), before);
  });

  t.test('TPROXY, with iptables', async (t) => {
    const before = traces();
    const proxy = await running(
      t,
      '--with-rules',
      '--mode',
      'tproxy',
      '--backend',
      'iptables',
      '--ports',
      '80',
    );
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1');
    await proxy.until('stdout', /Z 10\.1\.0\.1:\d+ → 198\.51\.100\.7:80 tproxy ↑ \d+ B ↓ \d+ B \d+ ms end\n/);
    t.same(await problems(proxy, 'tproxy'), []);
    t.equal(await end(proxy, 'SIGINT'), 0);
    t.equal(traces(), before);
  });

  t.test('a gateway, by TPROXY, from the client’s own address', async (t) => {
    sh(`
      ip netns add lan
      ip link add lan0 type veth peer name eth0 netns lan
      ip link set lan0 addrgenmode none
      ip addr add 10.2.0.1/24 dev lan0
      ip link set lan0 up
      ip -n lan addr add 10.2.0.2/24 dev eth0
      ip -n lan link set eth0 up
      ip -n lan route add default via 10.2.0.1
      ip -n far route add 10.2.0.0/24 via 10.1.0.1
    `);
    const before = traces();
    const gateway = '--with-rules --mode tproxy --direction gateway --interfaces lan0 --preserve-source';
    const proxy = await running(t, ...gateway.split(' '));
    const answer = sh('ip netns exec lan curl -sS -m 20 http://198.51.100.7/');
    t.equal(answer, '::ffff:10.2.0.2\n', 'the server sees the client');
    await proxy.until('stdout', /Z 10\.2\.0\.2:\d+ → 198\.51\.100\.7:80 tproxy .* end\n/);
    t.same(await problems(proxy, 'tproxy'), []);
    t.equal(await end(proxy, 'SIGINT'), 0);
    t.equal(traces(), before);
  });
});
