// The small examples, run as their headers say.
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import type { Greeting } from '../../lib/demo/servers.ts';
import { on, SCRATCH } from '../../lib/demo/stage.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { type Program, startProgram } from '../fixtures/program.ts';
import { exchange, startStage } from '../fixtures/stage.ts';

const run = promisify(execFile);
const built = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

function startExample(t: Test, name: string, ...args: string[]): Promise<Program> {
  return startProgram(t, process.execPath, [built(`examples/${name}.js`), ...args], /listening/);
}

/** What curl prints on the client's host. */
async function curl(...args: string[]): Promise<string> {
  const [command, rest] = on('client', ['curl', '--silent', '--show-error', '--max-time', '20', ...args]);
  return (await run(command, rest)).stdout;
}

/** Does curl get RST? It is told while it connects, sends or waits, whichever comes first: exit status 7, 55 or 56. */
async function isReset(url: string): Promise<boolean> {
  const failure: { code?: number; stderr?: string } = await curl(url).then(() => ({}), Object);
  return [7, 55, 56].includes(failure.code!) && !/timed out|refused/.test(failure.stderr!);
}

const secure = ['--cacert', `${SCRATCH}/cert.pem`, 'https://secure.example/'];

await inNamespace(t, import.meta.url, async () => {
  await startStage(t);

  for (const options of [[], ['--no-relay']]) {
    t.test(`redirect-proxy ${options.join(' ')}`, async (t) => {
      const proxy = await startExample(t, 'redirect-proxy', ...options);

      for (const [address, at, client, seen] of [
        ['198.51.100.30', '198.51.100.30:9000', '192.0.2.2', '198.51.100.1'],
        ['2001:db8:a::30', '[2001:db8:a::30]:9000', '2001:db8::2', '2001:db8:a::1'],
      ] as const) {
        const size = 300_000;
        const { sha256, received } = await exchange(address, 9000, 40001, size);
        // The server answers after the client's FIN, so an answer shows that half-close went through.
        t.same(JSON.parse(received), { server: at, client: seen, sha256 }, 'the true destination answered');
        const line = new RegExp(
          `${client} 40001 → ${address} 9000 end: sent ${size}, received ${received.length}\n`,
        );
        t.ok(await proxy.printed(line));
      }

      t.ok(await isReset('http://192.0.2.1:15001/'), 'who dials the proxy itself is reset');
      t.ok(
        await proxy.printed(/192\.0\.2\.2 \d+ → 192\.0\.2\.1 15001 failed: .*the dial would come back here/),
      );

      t.match(await curl('http://198.51.100.10/'), '198.51.100.10:80', 'and the proxy goes on');
      await t.rejects(curl('http://198.51.100.10:81/'), 'nobody listens at the destination');
      t.ok(await proxy.printed(/→ 198\.51\.100\.10 81 failed: .*ECONNREFUSED/));
    });
  }

  t.test('tproxy-proxy', async (t) => {
    const proxy = await startExample(t, 'tproxy-proxy');

    for (const [address, at, client] of [
      ['203.0.113.30', '203.0.113.30:9000', '192.0.2.2'],
      ['2001:db8:b::30', '[2001:db8:b::30]:9000', '2001:db8::2'],
    ] as const) {
      const size = 300_000;
      const { sha256, received } = await exchange(address, 9000, 40003, size);
      t.same(JSON.parse(received), { server: at, client, sha256 }, 'the server sees the client itself');
      const line = new RegExp(
        `${client} 40003 → ${address} 9000 end: sent ${size}, received ${received.length}\n`,
      );
      t.ok(await proxy.printed(line));
    }

    t.ok(await isReset('http://192.0.2.1:15006/'), 'who dials the proxy itself is reset');
    t.ok(await proxy.printed(/→ 192\.0\.2\.1 15006 failed: .*the dial would come back here/));
    await t.rejects(curl('http://203.0.113.10:81/'), 'nobody listens at the destination');
    t.ok(await proxy.printed(/→ 203\.0\.113\.10 81 failed: .*ECONNREFUSED/));
    t.match(await curl('http://203.0.113.10/'), '203.0.113.10:80', 'and the proxy goes on');
  });

  t.test('tproxy-proxy without the capability says what to do', (t) => {
    const without = ['--bounding-set=-net_admin,-net_raw', '--inh-caps=-net_admin,-net_raw'];
    const { status, stderr } = spawnSync(
      'setpriv',
      [...without, process.execPath, built('examples/tproxy-proxy.js')],
      { encoding: 'utf8', timeout: 60_000 },
    );
    t.match(stderr, /EPERM.*IP_TRANSPARENT needs CAP_NET_ADMIN/s);
    t.equal(status, 1);
    t.end();
  });

  t.test('http-inspector', async (t) => {
    // A hosts file that only this namespace sees.
    writeFileSync(`${SCRATCH}/hosts`, '198.51.100.10 web.example\n2001:db8:a::10 web.example\n');
    sh(`mount --bind ${SCRATCH}/hosts /etc/hosts`);
    t.teardown(() => sh('umount /etc/hosts'));
    const inspector = await startExample(t, 'http-inspector');
    const status = ['--output', '/dev/null', '--write-out', '%{http_code}'];

    t.match(
      await curl('http://web.example/'),
      /^ok dialled (198\.51\.100\.10|2001:db8:a::10) 80 \(redirect\)/,
    );
    t.match(
      await curl('-H', 'Host: 198.51.100.10', 'http://198.51.100.10/'),
      'ok dialled 198.51.100.10 80 (redirect) Host 198.51.100.10',
    );
    t.match(
      await curl('-H', 'Host: [2001:DB8:A:0::10]:8080', 'http://[2001:db8:a::10]:8080/'),
      'ok dialled 2001:db8:a::10 8080 (redirect) Host [2001:DB8:A:0::10]:8080',
    );
    t.match(await curl('http://192.0.2.1:15001/'), 'ok dialled 192.0.2.1 15001 (direct)');

    const fronted = ['-H', 'Host: web.example', 'http://198.51.100.66/'];
    t.equal(await curl(...status, ...fronted), '421');
    t.ok(
      await inspector.printed(
        /MISMATCH dialled 198\.51\.100\.66 80 \(redirect\) Host web\.example: web\.example is .*198\.51\.100\.10/,
      ),
    );
    for (const [host, why] of [
      ['198.51.100.11', /another address/],
      ['198.51.100.10:81', /Host says port 81/],
      ['not a host', /no usable Host header/],
    ] as const) {
      t.equal(await curl(...status, '-H', `Host: ${host}`, 'http://198.51.100.10/'), '421', host);
      t.ok(await inspector.printed(why));
    }
    t.equal(await curl(...status, '-0', '-H', 'Host:', 'http://198.51.100.10/'), '421', 'no Host at all');
  });

  t.test('sni-router', async (t) => {
    const router = await startExample(
      t,
      'sni-router',
      '15001',
      'moved.example=198.51.100.20:443',
      'Secure.example=[2001:db8:a::20]:443',
    );
    const dial = (address: string): string[] => ['--resolve', `secure.example:443:${address}`, ...secure];
    const greeting = async (...args: string[]): Promise<Greeting> =>
      JSON.parse(await curl(...args)) as Greeting;

    const routed = await greeting(...dial('198.51.100.66'));
    t.equal(routed.server, '[2001:db8:a::20]:443', 'a name with a route, whatever address was dialled');
    t.ok(await router.printed(/'secure\.example' for 198\.51\.100\.66 443 → 2001:db8:a::20 443/));

    // A hello of two records: the list of protocols makes it longer than one may be.
    const long = ['http/1.1', ...['a', 'b', 'c'].map((letter) => letter.repeat(200))].join();
    const request = 'GET / HTTP/1.1\\r\\nHost: secure.example\\r\\nConnection: close\\r\\n\\r\\n';
    const [command, rest] = on('client', [
      'sh',
      '-c',
      `printf '${request}' | timeout 20 openssl s_client -quiet -max_send_frag 512 -alpn ${long} \
        -connect 198.51.100.66:443 -servername SECURE.example -CAfile ${SCRATCH}/cert.pem 2>/dev/null`,
    ]);
    t.match((await run(command, rest)).stdout, '[2001:db8:a::20]:443', 'a hello in two records');

    const other = await greeting(
      '--insecure',
      '--resolve',
      'x.example:443:198.51.100.20',
      'https://x.example/',
    );
    t.equal(other.server, '198.51.100.20:443', 'a name without a route');
    t.ok(await router.printed(/'x\.example' for 198\.51\.100\.20 443 → there/));

    const nameless = await greeting('--insecure', 'https://198.51.100.20/');
    t.equal(nameless.server, '198.51.100.20:443', 'no name');
    t.equal((await greeting('http://198.51.100.10/')).server, '198.51.100.10:80', 'no TLS');

    const { sha256, received } = await exchange('198.51.100.30', 9000, 40002, 100_000);
    t.equal((JSON.parse(received) as Greeting).sha256, sha256, 'no TLS, no byte lost, half-close kept');

    t.ok(await isReset('http://192.0.2.1:15001/'), 'who dials the router itself is reset');
  });

  t.test('the examples are short and use nothing private', (t) => {
    const lines = execFileSync('sh', ['-c', 'wc -l examples/*.ts'], {
      encoding: 'utf8',
    });
    for (const [, count, file] of lines.matchAll(/^ *(\d+) (examples\/.*)$/gm)) {
      t.ok(Number(count) < 80, `${file} has ${count} lines`);
    }
    t.equal(
      spawnSync('grep', ['-n', "from '\\.\\.", '-r', 'examples']).status,
      1,
      'nothing from outside their folder',
    );
    t.end();
  });
});
