// What `original-dst proxy` refuses, how it ends, and what it shows meanwhile.
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { behind, cliBatch, RunningCli } from '../fixtures/cli.ts';
import { curl, end, running, setUp, slowDownload } from '../fixtures/far-network.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { traces } from '../fixtures/traces.ts';

/** An RST, at whatever moment it reached curl. */
const REFUSED = /^curl: (7|35|52|56)$/;

await inNamespace(t, import.meta.url, async () => {
  const web = await setUp();
  t.teardown(() => web.kill());

  for (const engine of ['', '--no-relay '])
    t.test(`who may be dialled, and failures ${engine}`, async (t) => {
      const proxy = await running(
        t,
        ...`${engine}--with-rules --grace 0 --mark 77 --allow 198.51.100.0/24 --allow 10.1.0.2:81`.split(' '),
        ...'--deny 198.51.100.8:80 --deny [2001:db8::/32]:443'.split(' '),
        ...'--allow-name far.test,*.near.test:80 --deny-name bad.near.test --inspect 80'.split(' '),
      );
      const asking = (name: string): string[] => ['-H', `Host: ${name}`];
      t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1');
      await proxy.until('stdout', /198\.51\.100\.7:80 .*\n/);
      t.equal(curl('http://10.1.0.2/', ...asking('far.test')), '::ffff:10.1.0.1', 'allowed by name alone');
      await proxy.until('stdout', /10\.1\.0\.2:80 redirect http far\.test ↑ [1-9].* end\n/);
      t.equal(curl('http://[2001:db8:6::7]/', ...asking('a.b.Near.Test.')), '2001:db8:5::1', 'IPv6');
      await proxy.until('stdout', /\[2001:db8:6::7\]:80 redirect http a\.b\.near\.test ↑ [1-9].* end\n/);
      for (const [url, name] of [
        ['http://198.51.100.8/', 'far.test'],
        ['http://198.51.100.7/', 'bad.near.test'],
        ['http://10.1.0.2/', 'other.test'],
        ['http://10.1.0.2/', 'near.test'],
      ] as const)
        t.match(curl(url, ...asking(name)), REFUSED, `${url} ${name}`);
      for (const url of [
        'http://198.51.100.8/',
        'http://10.1.0.2/',
        'http://[2001:db8:6::7]/',
        'http://10.1.0.2:81/',
      ]) {
        t.match(curl(url), REFUSED, url);
      }
      await proxy.until('stdout', /10\.1\.0\.2:81 .*\n/);
      const [, , , ...lines] = proxy.stdout.trim().split('\n');
      const refused = '↑ 0 B ↓ 0 B \\d+ ms ERR_EGRESS_DENIED$';
      for (const [i, what] of [
        `198.51.100.8:80 redirect http far.test ${refused}`,
        `198.51.100.7:80 redirect http bad.near.test ${refused}`,
        `10.1.0.2:80 redirect http other.test ${refused}`,
        `10.1.0.2:80 redirect http near.test ${refused}`,
        `198.51.100.8:80 redirect http ${refused}`,
        `10.1.0.2:80 redirect http ${refused}`,
        `\\[2001:db8:6::7\\]:80 redirect http ${refused}`,
        '10.1.0.2:81 redirect ↑ .*ECONNREFUSED$',
      ].entries())
        t.match(lines[i], new RegExp(what));
      const silent = connect(80, '198.51.100.7');
      silent.on('error', () => {});
      await once(silent, 'connect');
      t.equal(await end(proxy, 'SIGHUP'), 0);
      if (!silent.closed) await once(silent, 'close');
      t.equal(proxy.stdout.trim().split('\n').length, 11, 'nobody has decided about it');
    });

  t.test('open connections: grace, then none; a second signal', async (t) => {
    const short = await running(t, '--with-rules', '--grace', '1');
    await slowDownload(t);
    t.equal(await end(short, 'SIGTERM'), 0, 'after the grace');
    t.match(short.stdout, /aborted\n$/);

    const long = await running(t, '--with-rules', '--grace', '3600', '--allow', '198.51.100.7');
    await slowDownload(t);
    t.match(curl('http://198.51.100.8/'), REFUSED, 'by its address alone');
    long.child.kill('SIGINT');
    await long.until('stderr', /ending: open connections have 3600 s/);
    // Within half a second it would be the same request.
    await delay(600);
    t.equal(await end(long, 'SIGINT'), 0, 'at once');
  });

  t.test('a status line on a terminal', async (t) => {
    const proxy = new RunningCli(t, ['proxy', '--listen', '0', '--with-rules'], {}, []);
    await proxy.until('stdout', /listening on/);
    const slow = await slowDownload(t);
    await proxy.until('stdout', /\[K1 open, 1 connections, ↑ [1-9]\d* B ↓ [1-9]\d* B/);
    slow.kill();
    await proxy.until('stdout', /\[1m198\.51\.100\.7:80.\[22m redirect/);
    await proxy.until('stdout', /\[K0 open, 1 connections, ↑ [1-9]\d* B ↓ [1-9]\d* B/);
    sh(`kill -INT $(pgrep -P ${proxy.child.pid})`);
    t.equal(await proxy.ended, 0);
  });

  t.test('without the rights to dial so', async (t) => {
    const bare = ['setpriv', '--bounding-set', '-net_admin,-net_raw', '--inh-caps', '-net_admin,-net_raw'];
    for (const [flags, option] of [
      [['--mark', '5'], 'SO_MARK'],
      [['--preserve-source'], 'IP_TRANSPARENT'],
    ] as const) {
      const { status, stderr } = behind(bare, ['proxy', '--listen', '0', ...flags]);
      t.equal(status, 1);
      t.match(stderr, new RegExp(`^original-dst: setsockopt ${option} EPERM: .*needs CAP_NET_ADMIN`));
    }
    const rules = behind(bare, ['proxy', '--listen', '0', '--with-rules', '--mark', '5']);
    t.match(rules.stderr, /changing rules needs CAP_NET_ADMIN/);
    const marked = await running(t, '--mark', '5', '--preserve-source');
    t.equal(await end(marked, 'SIGINT'), 0, 'with them');
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
    t.match(clash!.stderr, /^original-dst: --exempt-mark: /);
    t.match(ssh!.stderr, /would capture SSH connections like the one in use/);
    t.equal(traces(), before);
    t.equal(await end(proxy, 'SIGINT'), 0);
  });
});
