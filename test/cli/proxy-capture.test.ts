// `original-dst proxy --capture ebpf`: from a command line to traffic, and nothing left of it.
import t from 'tap';
import { cliBatch } from '../fixtures/cli.ts';
import { inCaptureNamespace, makeCgroup, startClient } from '../fixtures/captured.ts';
import { end, running, setUp } from '../fixtures/far-network.ts';
import { sh } from '../fixtures/netns.ts';

const GET = `
def get(address):
    s = dial(address, 80); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); text = b''
    while True:
        more = s.recv(9999)
        if not more: return text.decode().strip().split()[-1]
        text += more
`;

await inCaptureNamespace(t, import.meta.url, async (t) => {
  const web = await setUp();
  t.teardown(() => web.kill());
  const cgroup = makeCgroup(t);
  const client = startClient(t, { cgroup });
  await client(GET);
  const get = (address: string): Promise<unknown> => client(`answer = get('${address}')`);

  await t.test('what programs of the cgroup dial, as far as the options say', async (t) => {
    const proxy = await running(
      t,
      ...`--capture ebpf --cgroup ${cgroup} --ports 80 --exclude 198.51.100.8 --deny 10.0.0.0/8`.split(' '),
    );
    t.match(proxy.stderr, `ebpf, capturing ${cgroup}`);
    t.equal(await get('198.51.100.7'), '::ffff:10.1.0.1');
    t.equal(await get('2001:db8:6::7'), '2001:db8:5::1');
    t.equal(await get('198.51.100.8'), '::ffff:10.1.0.1', 'excluded');
    t.match(await get('10.1.0.2'), { error: 'ECONNRESET' }, 'denied');
    // In whatever order: what has simply ended is told a little later.
    for (const line of [
      /198\.51\.100\.7:80 ebpf ↑ \d+ B ↓ \d+ B .*\n/,
      /\[2001:db8:6::7\]:80 ebpf .*\n/,
      /10\.1\.0\.2:80 ebpf .*ERR_EGRESS_DENIED\n/,
    ])
      t.ok(await proxy.until('stdout', line), String(line));
    t.notMatch(proxy.stdout, '198.51.100.8');
    t.equal(await end(proxy, 'SIGTERM'), 0);
    t.equal(await get('198.51.100.7'), '::ffff:10.1.0.1', 'afterwards programs dial by themselves');
    t.notMatch(sh('ip -6 route show table local'), 'fd0d');
  });

  await t.test('command lines that make no sense', async (t) => {
    const lines: [line: string, message: RegExp][] = [
      ['proxy --capture ebpf', /needs --cgroup/],
      ['proxy --cgroup x', /--cgroup is about --capture ebpf/],
      ['proxy --capture ebpf --cgroup x --with-rules', /exclude each other/],
      ['proxy --capture ebpf --cgroup x --mode tproxy', /leave --mode out/],
      ['proxy --capture ebpf --cgroup x --listen 127.0.0.1:1', /give --listen a port alone/],
      ['proxy --capture ebpf --cgroup x --listen 0.0.0.0:1', /give --listen a port alone/],
      ['proxy --capture ebpf --cgroup x --interfaces eth0', /--interfaces is about rules/],
      ['proxy --capture rules --listen 192.0.2.1:1', /outbound connections come in at/],
      ['proxy --capture ebpf --cgroup none/of/these', /There is no cgroup .*none\/of\/these/],
      [
        'proxy --capture ebpf --cgroup none/of/these --listen 0.0.0.0:0 --family 4 --exempt-mark 5',
        /There is no cgroup/,
      ],
    ];
    const results = cliBatch(lines.map(([line]) => line));
    for (const [index, [line, message]] of lines.entries()) {
      t.match(results[index]!.stderr, message, line);
      t.not(results[index]!.status, 0);
    }
  });
});
