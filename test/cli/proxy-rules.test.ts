// `original-dst proxy --with-rules`: what the rules bring gets through, or the combination is refused.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { promisify } from 'node:util';
import t from 'tap';
import { type ProxyRulesOptions, proxyPlan, unfit } from '../../lib/cli/proxy-rules.ts';
import { hostFamilies, toNftables } from '../../lib/rules/index.ts';
import { curl, end, running, setUp } from '../fixtures/far-network.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

const at = (host: string, more: Partial<ProxyRulesOptions> = {}): ProxyRulesOptions => ({
  mode: 'redirect',
  listen: { host, port: 15001 },
  withRules: true,
  ...more,
});

t.test('where it listens', async (t) => {
  t.equal(unfit(at('::')), undefined);
  t.equal(unfit(at('0.0.0.0')), undefined);
  t.equal(unfit(at('127.0.0.1')), undefined);
  t.equal(unfit(at('::ffff:127.0.0.1')), undefined, 'the same address');
  t.equal(unfit(at('::1', { direction: 'outbound', family: ['IPv6'] })), undefined);
  t.match(unfit(at('127.0.0.2')), /come in at 127\.0\.0\.1, not at 127\.0\.0\.2/);
  t.match(unfit(at('2001:db8::1')), /come in at ::1, not at/);
  t.match(unfit(at('0.0.0.0', { family: ['IPv4', 'IPv6'] })), /does not take IPv6, which --family asks for/);
  const gateway = { direction: 'gateway' } as const;
  t.equal(unfit(at('::', gateway)), undefined);
  t.match(unfit(at('127.0.0.1', gateway)), /first address of the interface/);
  t.match(unfit(at('127.0.0.1', { ...gateway, interfaces: ['lo', 'absent'] })), /first address/);
});

t.test('from whose address it dials', async (t) => {
  const preserve = { preserveSource: true } as const;
  const port = { preserveSource: 'port' } as const;
  const answers = (options: ProxyRulesOptions): string =>
    toNftables(proxyPlan(options, 15001, () => {})).replaceAll(
      /^.*(?<!proxy as client"|answer to the proxy")$/gm,
      '',
    );
  for (const direction of ['inbound', 'gateway'] as const) {
    t.equal(unfit(at('::', { ...preserve, direction })), undefined);
    t.match(unfit(at('::', { ...port, direction })), /conntrack would take .*leave the port out/);
    t.equal(unfit(at('::', { ...port, direction, mode: 'tproxy' })), undefined);
    t.match(
      answers(at('::', { ...preserve, direction })),
      /answer to the proxy/,
      'the answers find their way',
    );
    t.notMatch(answers(at('::', { direction })), /answer/);
    t.notMatch(answers(at('::', preserve)), /answer/, 'of one host');
  }
  t.equal(unfit(at('::', preserve)), undefined);
  t.equal(unfit(at('::', port)), undefined);
  const inbound = { ...preserve, direction: 'inbound' } as const;
  for (const mode of ['redirect', 'tproxy'] as const) {
    const marked = (mark: number): string => answers(at('::', { ...inbound, mode, mark }));
    t.match(marked(7), 'meta mark 0x00000007 ct mark set 0x00000539', 'any mark will do');
    t.match(marked(1337), 'meta mark 0x00000539 ct mark set meta mark');
  }
});

t.test('the plan is for the families that it takes', async (t) => {
  const said: string[] = [];
  const families = (options: ProxyRulesOptions): string[] =>
    Object.keys(proxyPlan(options, 15001, (message) => said.push(message)).chains);
  t.same(families(at('0.0.0.0')), ['IPv4']);
  t.same(families(at('::1')), ['IPv6']);
  t.same(families(at('::')), hostFamilies());
});

await inNamespace(t, import.meta.url, async () => {
  const web = await setUp();
  t.teardown(() => web.kill());

  t.test('the other family goes past', async (t) => {
    const proxy = await running(t, '--with-rules', '--listen', '127.0.0.1:0');
    t.equal(curl('http://[2001:db8:6::7]/'), '2001:db8:5::1');
    t.equal(curl('http://198.51.100.7/'), '::ffff:10.1.0.1');
    await proxy.until('stdout', /198\.51\.100\.7:80 redirect .* end\n/);
    t.notMatch(proxy.stdout, /2001/);
    t.equal(await end(proxy, 'SIGINT'), 0);
  });

  t.test('a gateway that listens at the address of its interface', async (t) => {
    sh('ip -n far route replace default via 10.1.0.1; ip -n far route add 203.0.113.0/24 via 10.1.0.1');
    const gateway =
      '--with-rules --direction gateway --interfaces near --listen 10.1.0.1:0 --deny 203.0.113.1';
    const proxy = await running(t, ...gateway.split(' '));
    sh('ip netns exec far curl -s -m 20 http://203.0.113.1/ || true');
    await proxy.until('stdout', /10\.1\.0\.2:\d+ → 203\.0\.113\.1:80 redirect .* ERR_EGRESS_DENIED\n/);
    t.equal(await end(proxy, 'SIGINT'), 0);
  });

  t.test('inbound, from the client’s own address', async (t) => {
    const server = createServer((request, response) => response.end(request.socket.remoteAddress));
    t.teardown(() => server.close());
    await once(server.listen(80, '::'), 'listening');
    for (const how of ['tproxy', 'redirect --mark 7']) {
      const inbound = `--with-rules --direction inbound --ports 80 --preserve-source --mode ${how}`;
      const proxy = await running(t, ...inbound.split(' '));
      const curl = 'netns exec far curl -sS -m 20 --noproxy * http://10.1.0.1/'.split(' ');
      const { stdout: answer } = await promisify(execFile)('ip', curl);
      t.equal(answer, '::ffff:10.1.0.2', `the server sees the client: ${how}`);
      await proxy.until('stdout', /10\.1\.0\.2:\d+ → 10\.1\.0\.1:80 (tproxy|redirect) .* end\n/);
      t.equal(await end(proxy, 'SIGINT'), 0);
    }
  });
});
