// The command without a network: help texts, arguments, exit codes.
import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { planRules, sidecar, toIpCommands, toNftables } from '../../lib/rules/index.ts';
import { accessText, begin } from '../../lib/cli/access-log.ts';
import { outcomeText } from '../../lib/relay/outcome.ts';
import { listenAddress, target } from '../../lib/cli/arguments.ts';
import { egressPolicies } from '../../lib/cli/egress-list.ts';
import { inspection, namePolicy } from '../../lib/cli/name-rules.ts';
import { bytes, wrap } from '../../lib/cli/output.ts';
import { codedError } from '../../lib/errors.ts';
import { behind, cli, cliBatch } from '../fixtures/cli.ts';

const COLOURED = /\[\d+m/;

t.test('every command has a help text with sections', async (t) => {
  const commands = [
    '',
    'run',
    'proxy',
    'rules',
    'rules print',
    'rules apply',
    'rules verify',
    'rules remove',
    'doctor',
    'demo',
  ];
  const results = cliBatch(commands.map((command) => `${command} --help`));
  for (const [i, { status, stdout, stderr }] of results.entries()) {
    const command = commands[i]!;
    t.equal(status, 0, command);
    t.ok(stdout.startsWith(`Usage: original-dst ${command}`), command);
    t.match(stdout, /Exit status:\n {2}0 {2}as it should be/, command);
    t.match(stdout, /Examples:\n {2}original-dst/, command);
    if (command !== '') t.match(stdout, /Privileges:\n {2}\S/, command);
    t.equal(stderr, '', command);
    t.notMatch(stdout, COLOURED, command);
  }
  t.match(cli(['--help'], { FORCE_COLOR: '1' }).stdout, COLOURED);
  t.notMatch(cli(['--help'], { NO_COLOR: '1' }).stdout, COLOURED);
});

t.test('wrong command lines end with 2 and say why', async (t) => {
  const wrong: [string, RegExp][] = [
    ['', /^Usage: original-dst/],
    ['rules', /^Usage: original-dst rules/],
    ['dance', /unknown command 'dance'/],
    ['doctor --port 0', /'0' is invalid.*whole number from 1 to 65535/],
    ['doctor --port http', /'http' is invalid/],
    ['doctor --mode nat', /Allowed choices are redirect, tproxy/],
    ['doctor extra', /too many arguments/],
    ['proxy --listen localhost:80', /'localhost:80' is invalid/],
    ['proxy --listen [127.0.0.1]:80', /is invalid/],
    ['proxy --listen 127.0.0.1:65536', /is invalid/],
    ...['127.0.0.1:1080', 'socks4://127.0.0.1', 'http://', 'http://a/b', 'socks5://a:0', 'http://a%0a@b'].map(
      (via): [string, RegExp] => [`proxy --via ${via}`, /'--via <url>' argument '.*' is invalid/],
    ),
    ['proxy --via http://a --preserve-source', /--via and --preserve-source exclude each other/],
    ['proxy --deny 10.0.0.0/33', /an address or a prefix/],
    ['proxy --deny 10.0.0.0/8:http', /is invalid/],
    ['proxy --allow-name 10.0.0.0/8', /It must be a name: addresses are for --allow and --deny/],
    ['proxy --deny-name a..b', /'a\.\.b' is no rule of a policy/],
    ['proxy --inspect https', /'https' is invalid/],
    ['proxy --mark -1', /is invalid/],
    ...['--ports 80', '--loopback', '--name x', '--drop-invalid', '--table 5', '--exempt-uid 33'].map(
      (flag): [string, RegExp] => [
        `proxy ${flag}`,
        new RegExp(`${flag.split(' ')[0]} is about rules: add --with-rules`),
      ],
    ),
    ['proxy --with-rules --listen 192.0.2.1:1', /outbound connections come in at 127\.0\.0\.1/],
    ['proxy --with-rules --direction inbound --loopback', /--loopback is about outbound connections/],
    ['rules print --port 1 --exempt-uid 3 --preserve-source', /about inbound and gateway connections/],
    ['rules print --port 1 --direction gateway --exempt-uid 3', /--exempt-uid is about outbound/],
    [
      'rules print --port 1 --direction inbound --otherwise reject',
      /--otherwise is about outbound and gateway/,
    ],
    ['proxy --otherwise reject', /--otherwise is about rules: add --with-rules/],
    ['rules print --preset sidecar --drop-invalid', /cannot be combined with --drop-invalid/],
    ['rules print', /give one of --preset, --config and --port/],
    ['rules print --preset sidecar --port 1', /give one of/],
    ['rules print --preset sidecar --ports 80', /cannot be combined with --ports/],
    ['rules print --preset sidecar --dns 53', /cannot be combined with a port of --dns/],
    ['rules print --port 15001 --dns', /--dns needs the port/],
    ['rules print --port 15001 --ports 80-', /a port \(80\) or a range/],
    ['rules print --port 15001 --family 5', /It must be 4 or 6/],
    ['rules print --config /nonexistent', /no such file/],
  ];
  const results = cliBatch(wrong.map(([line]) => line));
  for (const [i, [line, message]] of wrong.entries()) {
    const { status, stdout, stderr } = results[i]!;
    t.equal(status, 2, line);
    t.match(stderr, message, line);
    t.equal(stdout, '', line);
  }
});

t.test('a configuration says everything itself', async (t) => {
  const args = ['rules', 'print', '--config', '-', '--drop-invalid'];
  const { status, stderr } = cli(args, {}, JSON.stringify({ inbound: { mode: 'redirect', port: 1 } }));
  t.equal(status, 2);
  t.match(stderr, /--config cannot be combined with --drop-invalid/);
});

t.test('rules print', async (t) => {
  const directory = t.testdir({
    'flow.json': JSON.stringify({
      outbound: { mode: 'redirect', port: 15001, loopback: 'capture' },
      exempt: { marks: [7] },
    }),
    'gateway.json': JSON.stringify({ gateway: { mode: 'redirect', port: 1, forwarding: true } }),
  });
  const lines = {
    preset: '--preset sidecar',
    tuned:
      '--preset sidecar --mode tproxy --dns --family 4 --name pod --exempt-uid 7 --exempt-gid 8 --exclude 10.0.0.0/8 --exclude-ports 22',
    json: '--preset sidecar --json',
    own: '--port 15001 --exempt-uid 1337 --ports 80,8000-8999 --ports 443 --to 10.0.0.0/8,2001:db8::/32',
    flags: '--port 15001 --exempt-mark 0x7 --loopback --otherwise pass',
    refusing: '--port 15001 --direction gateway --otherwise reject --ports 80 --family 4',
    config: `--config ${directory}/flow.json`,
    dns: '--port 15001 --exempt-mark 7 --dns 5353',
    inbound:
      '--port 15006 --mode tproxy --direction inbound --interfaces eth0 --exclude 10.0.0.1 --exclude-ports 22 --drop-invalid --tproxy-mark 9 --table 8',
    iptables: '--port 15001 --exempt-uid 1337 --backend iptables',
    four: '--port 15001 --exempt-uid 1337 --backend iptables --family 4',
    six: '--port 15001 --exempt-uid 1337 --backend iptables --family 6',
    forwarding: `--config ${directory}/gateway.json`,
  };
  const results = cliBatch(Object.values(lines).map((line) => `rules print ${line}`));
  for (const [i, { status, stderr }] of results.entries())
    t.same([status, stderr], [0, ''], Object.keys(lines)[i]!);
  const printed = Object.fromEntries(
    Object.keys(lines).map((key, i) => [key, results[i]!.stdout]),
  ) as typeof lines;

  t.equal(printed.preset, `nft -f - <<'RULES'\n${toNftables(planRules(sidecar()))}RULES\n`);
  const plan = planRules(
    sidecar({
      name: 'pod',
      families: ['IPv4'],
      inbound: 'tproxy',
      dns: true,
      proxyUid: 7,
      proxyGid: 8,
      excludeOutboundCidrs: ['10.0.0.0/8'],
      excludeOutboundPorts: [22],
    }),
  );
  t.ok(printed.tuned.includes(toNftables(plan)));
  for (const command of toIpCommands(plan)) t.ok(printed.tuned.includes(`\n${command}\n`), command);
  t.same(JSON.parse(printed.json), JSON.parse(JSON.stringify(planRules(sidecar()))));
  t.match(printed.own, /tcp dport \{ 80, 443, 8000-8999 \}/);
  t.match(printed.own, /10\.0\.0\.0\/8/);
  t.equal(printed.flags, printed.config, 'the same in JSON');
  t.match(printed.refusing, /chain filter-rej-fwd \{[^}]*counter reject with tcp reset/);
  t.match(printed.dns, /redirect to :5353/);
  for (const text of ['eth0', '10.0.0.1', 'ct state invalid', '0x9', 'table 8']) {
    t.ok(printed.inbound.includes(text), text);
  }
  t.match(printed.iptables, /^iptables-restore --noflush <<'RULES'\n\*nat\n/);
  t.match(printed.iptables, /\nRULES\nip6tables-restore --noflush <<'RULES'\n/);
  t.notMatch(printed.six, /^iptables-restore/m);
  t.notMatch(printed.four, /^ip6tables-restore/m);
  t.match(printed.forwarding, /\nsysctl -w net\.ipv4\.ip_forward=1\n/);
  t.equal(
    cli(['rules', 'print', '--config', '-'], {}, readFileSync(join(directory, 'flow.json'), 'utf8')).stdout,
    printed.config,
    'from standard input',
  );
});

t.test('rules that are refused end with 1 and the reason', async (t) => {
  const session = { SSH_CONNECTION: '192.0.2.9 50000 192.0.2.1 22' };
  const [loop, ssh] = cliBatch(
    ['rules print --port 15001', 'rules apply --port 15006 --direction inbound'],
    session,
  );
  t.equal(loop!.status, 1);
  t.equal(loop!.stdout, '');
  t.match(loop!.stderr, /^original-dst: outbound would capture the proxy’s own connections/);
  t.equal(ssh!.status, 1);
  t.match(ssh!.stderr, /would capture SSH connections like the one in use/);
});

t.test('a reader that goes away is no failure', async (t) => {
  // A hundred kilobytes do not fit into the pipe's buffer.
  const script = '"$@" | head -c 1; echo; echo "${PIPESTATUS[0]}"';
  const directory = t.testdir({
    'many.json': JSON.stringify({
      gateway: {
        mode: 'redirect',
        port: 1,
        include: Array.from({ length: 2000 }, (_, i) => ({ destinations: [`10.${i >> 8}.${i & 255}.1`] })),
      },
    }),
  });
  const args = ['rules', 'print', '--config', `${directory}/many.json`];
  const { stdout } = behind(['bash', '-c', script, 'bash'], args);
  t.equal(stdout, 'n\n0\n');
});

t.test('doctor, and the version', async (t) => {
  const [text, json, version] = cliBatch([
    'doctor',
    'doctor --json --port 1 --mode tproxy --mark 0x539',
    '--version',
  ]);
  t.ok(text!.status === 0 || text!.status === 1);
  t.match(text!.stdout, /\(kernel\)\n {4}\S/);
  t.match(text!.stdout, /\n\d+ problems, \d+ warnings, \d+ ok\n$/);
  t.notMatch(text!.stdout, COLOURED);
  t.equal(json!.status, 1, 'nobody listens there');
  const { level, findings } = JSON.parse(json!.stdout) as {
    level: string;
    findings: { id: string; level: string }[];
  };
  t.equal(level, 'problem');
  t.ok(findings.some(({ id, level }) => id === 'listener' && level === 'problem'));
  t.match(version!.stdout, /^\d+\.\d+\.\d+\n$/);
  t.match(cli(['doctor'], { FORCE_COLOR: '1' }).stdout, COLOURED);
});

t.test('demo', async (t) => {
  const bin = t.testdir({ unshare: '#!/bin/sh\nexit 1\n' });
  chmodSync(`${bin}/unshare`, 0o755);
  const { status, stderr } = cli(['demo'], { PATH: bin });
  t.equal(status, 1);
  t.match(stderr, /^demo: (missing: |cannot make a network namespace)/);
});

t.test('arguments', async (t) => {
  t.same(target('10.0.0.0/8'), { cidr: '10.0.0.0/8', port: undefined });
  t.same(target('10.0.0.1:443'), { cidr: '10.0.0.1', port: 443 });
  t.same(target('2001:db8::/32'), { cidr: '2001:db8::/32', port: undefined });
  t.same(target('[2001:db8::/32]:443'), { cidr: '2001:db8::/32', port: 443 });
  t.same(target('[::1]'), { cidr: '::1', port: undefined });
  for (const bad of ['', ':80', '[::1]x', '10.0.0.1:', '10.0.0.1:80:90', 'name'])
    t.throws(() => target(bad), bad);
  t.same(listenAddress('0'), { host: '::', port: 0 });
  t.same(listenAddress('127.0.0.1:15001'), { host: '127.0.0.1', port: 15001 });
  t.same(listenAddress('[::1]:15001'), { host: '::1', port: 15001 });
  t.same(listenAddress('[0:0::0]:15001'), { host: '::', port: 15001 }, 'the wildcard, in another spelling');
  for (const bad of ['::1', 'x:1', '[1.2.3.4]:1', '1.2.3.4', '65536'])
    t.throws(() => listenAddress(bad), bad);
});

t.test('egress policies', async (t) => {
  const policies = egressPolicies(
    [{ cidr: '10.0.0.0/8', port: undefined }],
    [
      { cidr: '10.0.0.1', port: 80 },
      { cidr: '::1', port: undefined },
    ],
  );
  t.equal(policies(1), policies(2), 'one for all ports without a name');
  const { allow, deny } = policies(80);
  t.ok(allow!.check('10.1.1.1') && !allow!.check('11.0.0.1'));
  t.ok(deny!.check('10.0.0.1') && deny!.check('::1', 'ipv6'));
  t.notOk(policies(81).deny!.check('10.0.0.1'));
  t.ok(policies(81).deny!.check('::1', 'ipv6'));
  t.same(egressPolicies(undefined, undefined)(80), {});
});

t.test('access log', async (t) => {
  const failure = codedError('ERR_X', 'x');
  t.equal(outcomeText({ reason: 'end' }), 'end');
  t.equal(outcomeText({ reason: 'reset', side: 'client' }), 'reset by client');
  t.equal(outcomeText({ reason: 'error', error: failure }), 'ERR_X');
  const record = begin({ address: '192.0.2.1', port: 1 }, { kind: 'unknown', cause: failure });
  t.same({ ...record, time: '' }, { time: '', client: '192.0.2.1:1', kind: 'unknown' });
  const line = accessText(
    { ...record, time: 'T', bytesToUpstream: 1, bytesToClient: 2000, durationMs: 3, reason: 'ENOENT' },
    (style, text) => `<${style} ${text}>`,
  );
  t.equal(line, '<dim T> 192.0.2.1:1 → <bold unknown> unknown ↑ 1 B ↓ 2.0 kB 3 ms <red ENOENT>\n');
  const known = { kind: 'redirect', family: 'IPv4', address: '192.0.2.7', port: 80 } as const;
  const first = { protocol: 'tls', name: 'a.test', ech: false, bytes: Buffer.of(22) } as const;
  t.match(begin({ address: '192.0.2.1', port: 1 }, known, first), { protocol: 'tls', name: 'a.test' });
  const { name: _, ...nameless } = first;
  t.notOk('name' in begin({ address: '192.0.2.1', port: 1 }, known, nameless));
});

t.test('names and addresses of a proxy', async (t) => {
  const addresses = [target('10.0.0.0/8'), target('[2001:db8::/32]:443'), target('192.0.2.1:22')];
  t.equal(namePolicy({ allow: addresses }), undefined, 'addresses alone are no matter of names');
  const either = namePolicy({ allow: addresses, allowName: ['*.a.test'], denyName: ['b.a.test'] })!;
  for (const [subject, allowed] of [
    [{ name: 'x.a.test', address: '192.0.2.9', port: 80 }, true],
    [{ name: 'b.a.test', address: '10.0.0.1', port: 80 }, false],
    [{ address: '10.0.0.1', port: 80 }, true],
    [{ address: '2001:db8::1', port: 443 }, true],
    [{ address: '2001:db8::1', port: 80 }, false],
    [{ address: '192.0.2.1', port: 22 }, true],
    [{ address: '192.0.2.1', port: 23 }, false],
  ] as const)
    t.equal(either.test(subject), allowed, JSON.stringify(subject));
  const denying = namePolicy({ denyName: ['b.test'] })!;
  t.same([denying.test('b.test'), denying.test('c.test'), denying.test({})], [false, true, true]);
  t.equal(namePolicy({ allowName: ['b.test'] })!.test({}), false, 'no name');
  const without = namePolicy({ allow: addresses, denyName: ['b.test'] })!;
  t.same([without.test({ address: '10.0.0.1' }), without.test({ address: '192.0.2.9' })], [true, false]);
  t.same(
    [
      {},
      { inspect: [80] },
      { inspect: true as const },
      { allowName: ['a.test'] },
      { denyName: ['a.test'] },
    ].map(inspection),
    [undefined, { ports: [80] }, {}, {}, {}],
  );
});

t.test('text', async (t) => {
  t.same([0, 999, 1000, 1_234_567, 5e15].map(bytes), ['0 B', '999 B', '1.0 kB', '1.2 MB', '5000.0 TB']);
  t.equal(wrap('one two three', '  ', 9), '  one two\n  three\n');
  t.equal(wrap('unbreakable', ' ', 4), ' unbreakable\n');
});
