// `original-dst proxy` on real traffic: this namespace is the host, `far` is the network around it.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import t, { type Test } from 'tap';
import { cliBatch, RunningCli } from './fixtures/cli.ts';
import { inNamespace, sh } from './fixtures/netns.ts';
import { traces } from './fixtures/traces.ts';

/** Says who it thinks the client is. */
const WEB = `
  const server = require('node:http').createServer((request, response) => {
    if (request.url === '/slow') response.write('wait');
    else response.end(request.socket.remoteAddress + '\\n');
  });
  server.listen(80, '::', () => console.log('ready'));
`;

/** An RST, at whatever moment it reached curl. */
const REFUSED = /^curl: (7|35|52|56)$/;

function curl(...args: string[]): string {
  const { stdout, status } = spawnSync('curl', ['-sS', '-m', '20', '--noproxy', '*', ...args], {
    encoding: 'utf8',
  });
  return status === 0 ? stdout.trim() : `curl: ${status}`;
}

async function running(t: Test, ...args: string[]): Promise<RunningCli> {
  const proxy = new RunningCli(t, ['proxy', '--listen', '0', ...args]);
  await proxy.until('stderr', /listening on .*\n/);
  return proxy;
}

async function end(proxy: RunningCli, signal: NodeJS.Signals): Promise<number | NodeJS.Signals | null> {
  proxy.child.kill(signal);
  return proxy.ended;
}

async function setUp(): Promise<ChildProcess> {
  sh(`
    ip netns add far
    ip link add near type veth peer name eth0 netns far
    ip link set near addrgenmode none
    ip addr add 10.1.0.1/24 dev near
    ip -6 addr add 2001:db8:5::1/64 dev near nodad
    ip link set near up
    ip route add default via 10.1.0.2
    ip -6 route add default via 2001:db8:5::2
    ip -n far link set lo up
    ip -n far addr add 10.1.0.2/24 dev eth0
    ip -n far -6 addr add 2001:db8:5::2/64 dev eth0 nodad
    ip -n far addr add 198.51.100.7/32 dev lo
    ip -n far addr add 198.51.100.8/32 dev lo
    ip -n far -6 addr add 2001:db8:6::7/128 dev lo nodad
    ip -n far link set eth0 up
  `);
  const web = spawn('ip', ['netns', 'exec', 'far', process.execPath, '-e', WEB], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(web.stdout!, 'data');
  return web;
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
    t.equal(await end(proxy, 'SIGINT'), 0);
    t.equal(traces(), before);
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1', 'the way is free again');
  });

  t.test('kill -9, and a start after it', async (t) => {
    const before = traces();
    const killed = await running(t, '--with-rules', '--mode', 'tproxy');
    t.equal(await end(killed, 'SIGKILL'), 'SIGKILL');
    t.not(traces(), before, 'what was killed could not clean up');
    const next = await running(t, '--with-rules');
    t.equal(
      traces().replaceAll(/:\d{4,5}\b/g, ''),
      installed.replaceAll(/:\d{4,5}\b/g, ''),
      'only the new rules are there',
    );
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1');
    t.equal(await end(next, 'SIGINT'), 0);
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
    t.equal(await end(proxy, 'SIGINT'), 0);
    t.equal(traces(), before);
  });

  t.test('who may be dialled, and failures', async (t) => {
    const proxy = await running(
      t,
      ...'--with-rules --no-relay --mark 77 --allow 198.51.100.0/24 --allow 10.1.0.2:81'.split(' '),
      ...'--deny 198.51.100.8:80 --deny [2001:db8::/32]:443'.split(' '),
    );
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1');
    for (const url of [
      'http://198.51.100.8/',
      'http://10.1.0.2/',
      'http://[2001:db8:6::7]/',
      'http://10.1.0.2:81/',
    ]) {
      t.match(curl(url), REFUSED, url);
    }
    await proxy.until('stdout', /10\.1\.0\.2:81 .*\n/);
    const [, ...lines] = proxy.stdout.trim().split('\n');
    t.match(lines[0], /198\.51\.100\.8:80 redirect ↑ 0 B ↓ 0 B \d+ ms ERR_EGRESS_DENIED$/);
    t.match(lines[1], /10\.1\.0\.2:80 .*ERR_EGRESS_DENIED$/);
    t.match(lines[2], /\[2001:db8:6::7\]:80 .*ERR_EGRESS_DENIED$/);
    t.match(lines[3], /10\.1\.0\.2:81 .*ECONNREFUSED$/);
    t.equal(await end(proxy, 'SIGHUP'), 0);
  });

  t.test('open connections: grace, then none; a second signal', async (t) => {
    const short = await running(t, '--with-rules', '--grace', '1');
    const slow = spawn('curl', ['-sN', 'http://198.51.100.7/slow'], { stdio: ['ignore', 'pipe', 'ignore'] });
    await once(slow.stdout, 'data');
    t.equal(await end(short, 'SIGTERM'), 0, 'after the grace');
    t.match(short.stdout, /aborted\n$/);

    const long = await running(t, '--with-rules', '--grace', '3600');
    const other = spawn('curl', ['-sN', 'http://198.51.100.7/slow'], { stdio: ['ignore', 'pipe', 'ignore'] });
    await once(other.stdout, 'data');
    long.child.kill('SIGINT');
    await long.until('stderr', /ending: open connections have 3600 s/);
    t.equal(await end(long, 'SIGINT'), 0, 'at once');
  });

  t.test('a status line on a terminal', async (t) => {
    const proxy = new RunningCli(t, ['proxy', '--listen', '0', '--with-rules'], {}, ['script', '-qefc']);
    await proxy.until('stdout', /listening on/);
    const slow = spawn('curl', ['-sN', 'http://198.51.100.7/slow'], { stdio: ['ignore', 'pipe', 'ignore'] });
    await once(slow.stdout, 'data');
    await proxy.until('stdout', /\[K1 open, 1 connections, ↑ [1-9]\d* B ↓ [1-9]\d* B/);
    slow.kill();
    await proxy.until('stdout', /\[1m198\.51\.100\.7:80.\[22m redirect/);
    await proxy.until('stdout', /\[K0 open, 1 connections, ↑ [1-9]\d* B ↓ [1-9]\d* B/);
    sh(`kill -INT $(pgrep -P ${proxy.child.pid})`);
    t.equal(await proxy.ended, 0);
  });

  t.test('what cannot be done is told, and leaves nothing', async (t) => {
    const before = traces();
    const proxy = await running(t, '--log', 'none');
    const [, port] = await proxy.until('stderr', /:(\d+) \(redirect\)/);
    t.match(curl(`http://127.0.0.1:${port}/`), REFUSED, 'dialling the proxy itself is no loop');
    t.equal(proxy.stdout, '', 'no log was asked for');
    const session = { SSH_CONNECTION: '192.0.2.9 50000 192.0.2.1 22' };
    const [taken, clash, ssh] = cliBatch(
      [
        `proxy --listen ${port} --with-rules`,
        'proxy --listen 0 --with-rules --exempt-mark 1337 --mode tproxy',
        'proxy --listen 0 --with-rules --direction inbound',
      ],
      session,
    );
    t.equal(taken!.status, 1);
    t.match(taken!.stderr, /^original-dst: listen EADDRINUSE/);
    t.equal(clash!.status, 1);
    t.match(clash!.stderr, /^original-dst: exempt\.marks/);
    t.match(ssh!.stderr, /would capture SSH connections like the one in use/);
    t.equal(traces(), before);
    t.equal(await end(proxy, 'SIGINT'), 0);
  });
});
