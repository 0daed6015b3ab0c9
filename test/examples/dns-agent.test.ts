// examples/dns-agent behind DNS capture rules, with the resolvers in a network namespace of their own.
import { execFile } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import * as dns from 'dns-packet';
import t from 'tap';
import { createDatagramSocket } from '../../lib/index.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { startProgram } from '../fixtures/program.ts';
import { internet, nextMessage } from '../fixtures/udp.ts';

const run = promisify(execFile);
const built = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

/**
 * Rules that leave the agent's own questions alone, what it needs to know of them, and whether an application's
 * question is still captured when it comes from a port that the agent has asked the same resolver from just before.
 */
const MODES = {
  tproxy: {
    // First: it needs no conntrack, and none is at work yet.
    args: ['--transparent'],
    captured: true,
    rules: `chain output {
      type route hook output priority mangle
      meta mark != 7 udp dport 53 meta mark set 1
      meta mark != 7 tcp dport 53 meta mark set 1
    }
    chain prerouting {
      type filter hook prerouting priority mangle
      meta mark 1 udp dport 53 tproxy to :15053 accept
      meta mark 1 tcp dport 53 tproxy to :15053 accept
    }`,
  },
  redirect: {
    args: [],
    captured: false,
    rules: `chain output {
      type nat hook output priority -100
      meta mark != 7 udp dport 53 redirect to :15053
      meta mark != 7 tcp dport 53 redirect to :15053
    }`,
  },
  'redirect with conntrack zones': {
    args: ['--zones', '0,2'],
    captured: true,
    rules: `chain raw_output {
      type filter hook output priority raw
      udp dport 53 meta mark 7 ct zone set 1
      udp dport 53 meta mark != 7 ct zone set 2
      udp sport 15053 ct zone set 2
    }
    chain raw_prerouting {
      type filter hook prerouting priority raw
      iifname "wan0" udp sport 53 ct zone set 1
    }
    chain output {
      type nat hook output priority -100
      meta mark != 7 udp dport 53 redirect to :15053
      meta mark != 7 tcp dport 53 redirect to :15053
    }`,
  },
} as const;

async function dig(...args: string[]): Promise<string> {
  return (await run('dig', ['+tries=1', '+time=5', ...args])).stdout;
}

await inNamespace(t, import.meta.url, async () => {
  internet(['9.9.9.9/32', '1.1.1.1/32', '2620:fe::fe/128']);
  const resolver = built('test/fixtures/programs/resolver.js');
  const addresses = ['9.9.9.9', '1.1.1.1', '2620:fe::fe'];
  const inside = ['netns', 'exec', 'internet', process.execPath, resolver, ...addresses];
  await startProgram(t, 'ip', inside, /ready/);
  // What libc reads, for this namespace alone.
  writeFileSync('/run/resolv.conf', 'nameserver 9.9.9.9\nnameserver 1.1.1.1\n');
  sh('mount --bind /run/resolv.conf /etc/resolv.conf');

  for (const [mode, { args, rules, captured }] of Object.entries(MODES)) {
    await t.test(mode, async (t) => {
      const agent = await startProgram(
        t,
        process.execPath,
        [
          built('examples/dns-agent/main.js'),
          '--mark',
          '7',
          ...args,
          'own.test=203.0.113.99',
          'own.test=2001:db8::99',
        ],
        /listening/,
      );
      nft(`table inet dns {\n${rules}\n}`);
      t.teardown(() => nft('delete table inet dns'));
      const kind = mode.split(' ')[0]!;

      for (const server of ['9.9.9.9', '2620:fe::fe']) {
        const forwarded = await dig(`@${server}`, 'else.test', 'TXT');
        t.match(forwarded, `"${server} "`, 'the resolver that was asked has answered');
        t.match(forwarded, `SERVER: ${server}#53(${server}) (UDP)`);
        t.match(await dig(`@${server}`, 'own.test', 'A', '+noall', '+answer'), /A\t203\.0\.113\.99/);
        t.match(await dig(`@${server}`, 'OWN.test', 'AAAA', '+short', '+noedns'), '2001:db8::99');
        t.match(await dig(`@${server}`, 'own.test', 'MX'), /status: NOERROR.*ANSWER: 0/s);
        t.ok(
          await agent.printed(new RegExp(`asked ${server} 53 \\(${kind}\\) for else\\.test TXT: forwarded`)),
        );

        const big = await dig(`@${server}`, 'big.test', 'TXT', '+bufsize=512');
        t.match(big, `SERVER: ${server}#53(${server}) (TCP)`, 'truncated, then by TCP');
        t.match(big, /ANSWER: 8/);
        t.match(
          await dig(`@${server}`, 'big.test', 'TXT', '+bufsize=4096'),
          /\(UDP\)/,
          'EDNS has room for it',
        );
        t.match(await dig(`@${server}`, 'own.test', 'A', '+tcp', '+short'), '203.0.113.99');
      }

      t.match((await run('getent', ['ahostsv4', 'own.test'])).stdout, /^203\.0\.113\.99 /, 'libc');
      t.match((await run('getent', ['ahostsv4', 'else.test'])).stdout, /^203\.0\.113\.10 /);

      await t.test('one socket, several servers at a time, as musl asks', async (t) => {
        const socket = createSocket('udp4');
        t.teardown(() => socket.close());
        const answers = new Set<string>();
        socket.on('message', (data, { address, port }) => {
          const [record] = dns.decode(data).answers as dns.TxtAnswer[];
          answers.add(`${address} ${port} says ${String(record!.data).trim()}`);
        });
        const query = dns.encode({ type: 'query', id: 7, questions: [{ type: 'TXT', name: 'musl.test' }] });
        for (const server of ['9.9.9.9', '1.1.1.1']) socket.send(query, 53, server);
        while (answers.size < 2) await once(socket, 'message', { signal: AbortSignal.timeout(5000) });
        t.same([...answers].sort(), ['1.1.1.1 53 says 1.1.1.1', '9.9.9.9 53 says 9.9.9.9']);
      });

      await t.test('a port that the agent has used', async (t) => {
        const [address, destination] = ['192.0.2.1', { address: '9.9.9.9', port: 53 }];
        const query = dns.encode({ type: 'query', id: 7, questions: [{ type: 'A', name: 'own.test' }] });
        const ask = async (mark: number, port: number): Promise<[string, number]> => {
          const socket = createDatagramSocket({ address, port, mark });
          t.equal(socket.send(query, { destination }), undefined);
          const [data, { source }] = await nextMessage(socket);
          const [record] = dns.decode(data).answers as dns.StringAnswer[];
          socket.close();
          t.match(source, destination);
          return [record!.data, socket.address().port];
        };
        const [theirs, port] = await ask(7, 0);
        t.equal(theirs, '203.0.113.10', 'what the agent asks goes to the resolver');
        const [answer] = await ask(0, port);
        t.equal(answer, captured ? '203.0.113.99' : '203.0.113.10');
      });

      await t.test('FIN behind the questions', async (t) => {
        const query = dns.streamEncode({
          type: 'query',
          id: 7,
          questions: [{ type: 'TXT', name: 'else.test' }],
        });
        const own = dns.streamEncode({ type: 'query', id: 8, questions: [{ type: 'A', name: 'own.test' }] });
        for (const questions of [[query], [query, own, query], [own]]) {
          const tcp = connect(53, '9.9.9.9');
          tcp.end(Buffer.concat(questions));
          const received = await buffer(tcp);
          let answers = 0;
          for (let at = 0; at < received.length; at += 2 + received.readUInt16BE(at)) answers++;
          t.equal(answers, questions.length, 'each has its answer, and the connection ends');
        }
        const rude = connect(53, '9.9.9.9');
        rude.end(query, () => rude.resetAndDestroy());
        await once(rude, 'close');
      });

      await t.test('malformed', async (t) => {
        const socket = createSocket('udp4');
        t.teardown(() => socket.close());
        socket.connect(53, '9.9.9.9');
        await once(socket, 'connect');
        const response = dns.encode({
          type: 'response',
          id: 1,
          questions: [{ type: 'A', name: 'own.test' }],
        });
        const cutOff = Buffer.from('00090100000100000000000003616263', 'hex');
        for (const data of ['', 'short', response, cutOff]) socket.send(data);
        const [answer] = (await once(socket, 'message', { signal: AbortSignal.timeout(5000) })) as [Buffer];
        t.equal(answer.toString('hex', 0, 4), '00098101', 'FORMERR, to the only question that had an id');

        const tcp = connect(53, '9.9.9.9');
        tcp.end(Buffer.concat([Buffer.from([0, cutOff.length]), cutOff, Buffer.from([9, 9, 1])]));
        const [framed] = (await once(tcp, 'data', { signal: AbortSignal.timeout(5000) })) as [Buffer];
        t.equal(framed.toString('hex', 0, 6), '000c00098101');
        tcp.destroy();
      });

      t.match(await dig('@192.0.2.1', '-p', '15053', 'else.test'), /REFUSED/, 'who asks the agent itself');
      t.match(await dig('@9.9.9.9', 'else.test', 'A', '+short'), '203.0.113.10', 'and it goes on');
    });
  }
});
