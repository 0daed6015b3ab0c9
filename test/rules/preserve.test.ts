// A proxy that borrows its clients' addresses: the rules must bring the answers back to it, in both back-ends. And
// connections that were there before the rules must go on.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, createServer as createHttpServer, get, type RequestOptions } from 'node:http';
import type { Server } from 'node:net';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { connect, createServer } from '../../lib/index.ts';
import {
  apply,
  planRules,
  remove,
  sidecar,
  verify,
  type Backend,
  type RulesConfig,
} from '../../lib/rules/index.ts';
import { inNamespace, nft } from '../fixtures/netns.ts';
import { makeNetwork } from '../fixtures/rule-network.ts';

const PORT = 8000;
const MARK = 1337;
// A connection that waits for its next request stays, however long the rules take.
const WHO = `require('http').createServer({ keepAliveTimeout: 600_000 }, (q, r) => r.end(q.socket.remoteAddress))
  .listen(${PORT}, '::', () => console.log('up'))`;

/**
 * A proxy that dials every destination with its client's address; tells where the connections were going. To
 * programs of this host it must dial with the mark, which brings their answers back; to others without: the mark
 * routes to this host.
 */
async function startProxy(t: Test, port: number, mark?: number): Promise<string[]> {
  const seen: string[] = [];
  const server = createServer({ transparent: true }, (socket) => {
    if (socket.originalDst.kind === 'unknown') throw socket.originalDst.cause;
    const { address, port: to } = socket.originalDst;
    seen.push(`${address} ${to}`);
    const source = { address: socket.remoteAddress!.replace('::ffff:', '') };
    const upstream = connect({ address, port: to, source, transparent: true, ...(mark ? { mark } : {}) });
    for (const end of [socket, upstream]) end.on('error', () => end.destroy());
    socket.pipe(upstream).pipe(socket);
  });
  await listen(t, server, port);
  return seen;
}

async function listen(t: Test, server: Server, port: number): Promise<void> {
  server.listen(port, '::');
  await once(server, 'listening');
  t.teardown(() => server.close());
}

/** A program of this host that tells who has called it. */
async function listenAsProgram(t: Test): Promise<void> {
  await listen(
    t,
    createHttpServer((request, response) => response.end(request.socket.remoteAddress)),
    PORT,
  );
}

async function curl(url: string, source: string): Promise<string> {
  const command = [
    'netns',
    'exec',
    'client',
    'curl',
    '-s',
    '--globoff',
    '--max-time',
    '10',
    '--interface',
    source,
    url,
  ];
  return (await promisify(execFile)('ip', command)).stdout;
}

/** The body of an answer. */
function fetchText(options: RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => resolve(text));
    });
    request.on('error', reject);
  });
}

await inNamespace(
  t,
  import.meta.url,
  async () => {
    makeNetwork();
    // Conntrack must know a connection to tell that it is not new: on a host that has other rules, it does.
    nft(`table inet host {
      chain input {
        type filter hook input priority 0; policy accept;
        ct state established accept
      }
    }`);
    const far = spawn('ip', ['netns', 'exec', 'server', process.execPath, '-e', WHO], {
      env: { PATH: process.env['PATH'] },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => far.kill());
    await once(far.stdout, 'data');
    const include = { interfaces: ['lan0'] };
    const gateways: [string, RulesConfig][] = [
      ['tproxy', { gateway: { mode: 'tproxy', port: 15002, include } }],
      ['redirect', { gateway: { mode: 'redirect', port: 15002, include, preserveSource: true } }],
    ];
    const inbounds: [string, RulesConfig, mark: number][] = [
      [
        'redirect',
        {
          inbound: { mode: 'redirect', port: 15006, preserveSource: true },
          outbound: { mode: 'redirect', port: 15001, hairpin: {} },
          exempt: { uids: [0], sources: ['127.0.0.6', '::6'] },
        },
        MARK,
      ],
      [
        'tproxy, another mark',
        { inbound: { mode: 'tproxy', port: 15006, preserveSource: { mark: MARK } }, mark: 0x500 },
        MARK,
      ],
    ];
    const outbound: RulesConfig = { outbound: { mode: 'tproxy', port: 15001 }, exempt: { marks: [77] } };

    for (const backend of ['nftables', 'iptables'] satisfies Backend[]) {
      t.test(`${backend}: sidecar`, async (t) => {
        // As Istio runs its proxy in this mode: user 0, group 1337.
        process.setegid!(1337);
        t.teardown(() => process.setegid!(0));
        const plan = planRules(sidecar({ inbound: 'tproxy' }));
        await apply(plan, { backend });
        t.teardown(() => remove(plan.name));
        const seen = await startProxy(t, 15006, MARK);
        await listenAsProgram(t);

        t.equal(
          await curl(`http://10.1.0.1:${PORT}/`, '10.1.0.2'),
          '::ffff:10.1.0.2',
          'the program sees the client',
        );
        t.equal(await curl(`http://[fd01::1]:${PORT}/`, 'fd01::2'), 'fd01::2');
        t.same(seen.splice(0), [`10.1.0.1 ${PORT}`, `fd01::1 ${PORT}`], 'through the proxy');

        const self = { host: '10.1.0.1', port: PORT, agent: false as const };
        t.equal(await fetchText(self), '::ffff:10.1.0.1', 'the proxy calls its own service');
        t.same(seen.splice(0), [`10.1.0.1 ${PORT}`], 'and is its own client');
        t.equal(await fetchText({ ...self, localAddress: '127.0.0.6' }), '::ffff:127.0.0.6');
        t.equal(await fetchText({ ...self, host: '127.0.0.1' }), '::ffff:127.0.0.1');
        t.same(seen, [], 'its calls to its program are its own');
      });

      // Under redirect a setting asks for the way back; under tproxy it may name a mark other than that of the routing.
      for (const [what, rules, mark] of inbounds) {
        t.test(`${backend}: inbound, ${what}`, async (t) => {
          const plan = planRules(rules);
          await apply(plan, { backend });
          t.teardown(() => remove(plan.name));
          t.equal(await verify(plan, { backend }), undefined);
          const seen = await startProxy(t, 15006, mark);
          await listenAsProgram(t);
          t.equal(await curl(`http://10.1.0.1:${PORT}/`, '10.1.0.2'), '::ffff:10.1.0.2');
          t.equal(
            await curl(`http://[fd01::1]:${PORT}/`, 'fd01::2'),
            'fd01::2',
            'the program sees the client',
          );
          t.same(seen, [`10.1.0.1 ${PORT}`, `fd01::1 ${PORT}`], 'through the proxy');
        });
      }

      for (const [what, rules] of gateways) {
        t.test(`${backend}: gateway, ${what}`, async (t) => {
          const plan = planRules(rules);
          await apply(plan, { backend });
          t.teardown(() => remove(plan.name));
          const seen = await startProxy(t, 15002);
          t.equal(
            await curl(`http://198.51.100.10:${PORT}/`, '10.1.0.2'),
            '::ffff:10.1.0.2',
            'the server sees the client',
          );
          t.equal(await curl(`http://[2001:db8:1::10]:${PORT}/`, 'fd01::2'), 'fd01::2');
          t.same(seen, [`198.51.100.10 ${PORT}`, `2001:db8:1::10 ${PORT}`], 'through the proxy');
        });
      }

      t.test(`${backend}: connections from before the rules`, async (t) => {
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        t.teardown(() => agent.destroy());
        const far = { host: '198.51.100.10', port: PORT, agent };
        t.equal(await fetchText(far), '::ffff:10.2.0.1');
        const plan = planRules(outbound);
        await apply(plan, { backend });
        t.teardown(() => remove(plan.name));
        t.equal(await fetchText(far), '::ffff:10.2.0.1', 'go on');
        await listen(
          t,
          createServer({ transparent: true }, (socket) => socket.destroy()),
          15001,
        );
        await t.rejects(fetchText({ ...far, agent: false }), 'a new one is captured');
      });
    }
  },
  { root: true },
);
