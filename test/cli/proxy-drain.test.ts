// The end of `original-dst proxy --with-rules`: open connections go on until they end, new ones go past it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { RunningCli } from '../fixtures/cli.ts';
import {
  type Dials,
  dialAll,
  FAR,
  IN_FAR,
  lookAgain,
  makeNetwork,
  SERVICE,
} from '../fixtures/drain-network.ts';
import { end, killAll, running } from '../fixtures/far-network.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { Ticker, type Ticking } from '../fixtures/ticker.ts';
import { traces } from '../fixtures/traces.ts';

/** Waits for the rules of a proxy that is about to end. */
async function changed(): Promise<void> {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await delay(50)) {
    if (/new connection/.test(traces())) return;
  }
  throw new Error('the rules have not changed');
}

/** Says all it has to say at once, in port 8001. */
const BYTES = 400_000;
const GENEROUS = `require('node:net').createServer((socket) => socket.end(Buffer.alloc(${BYTES})))
  .listen(8001, '::', () => console.log('ready'))`;

const over = (connections: Ticking[]): boolean[] => connections.map((each) => each.over !== undefined);

await inNamespace(t, import.meta.url, async () => {
  makeNetwork();
  const before = traces();
  const host = await Ticker.start(t, []);
  await Ticker.start(t, IN_FAR, { listen: SERVICE });
  const dials: Dials = [[host, FAR]];
  t.afterEach(() => host.hangUp());

  for (const [mode, backend] of [
    ['redirect', 'nftables'],
    ['tproxy', 'iptables'],
  ] as const) {
    t.test(`${mode}, ${backend}`, async (t) => {
      const options = ['--mode', mode, '--backend', backend, '--grace', '3600'];
      const proxy = await running(t, '--with-rules', ...options);
      await dialAll(dials);
      proxy.child.kill('SIGTERM');
      await changed();
      t.same(over(await lookAgain(dials, 1000)), [false, false], 'open connections go on');
      await dialAll(dials);
      t.same(over(await lookAgain(dials)), [false, false, false, false], 'beside new ones');
      // Long after the first: another request, to end at once.
      t.equal(await end(proxy, 'SIGTERM'), 0);
      t.same(over(await lookAgain(dials)), [true, true, false, false], 'the old ones alone');
      t.equal(proxy.stdout.trim().split('\n').length, 2, 'the new ones went past');
      t.equal(traces(), before, 'nothing is left behind');
    });
  }

  t.test('not one connection fails meanwhile', async (t) => {
    const proxy = await running(t, '--with-rules');
    let made = 0;
    const failed: unknown[] = [];
    const caller = async (address: string): Promise<void> => {
      while (proxy.child.exitCode === null) {
        const socket = connect(SERVICE, address).setEncoding('utf8');
        try {
          await once(socket, 'data');
          socket.end('hello\n');
          const [answer] = (await once(socket, 'data')) as [string];
          if (answer !== 'hello\n') failed.push(answer);
          await once(socket, 'end');
        } catch (error) {
          failed.push(error);
        }
        socket.destroy();
        made++;
      }
    };
    const callers = Promise.all([...FAR, ...FAR].map((address) => caller(address)));
    await delay(500);
    t.equal(await end(proxy, 'SIGTERM'), 0);
    await callers;
    t.same(failed, []);
    const proxied = proxy.stdout.trim().split('\n');
    t.ok(proxied.length > 0 && proxied.length < made, `${proxied.length} of ${made} by way of the proxy`);
    t.ok(proxied.every((line) => line.endsWith(' end')));
    t.equal(traces(), before);
  });

  t.test('a client that has not read all yet', async (t) => {
    const generous = spawn(IN_FAR[0]!, [...IN_FAR.slice(1), process.execPath, '-e', GENEROUS], {
      env: { PATH: process.env['PATH'] },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => generous.kill());
    await once(generous.stdout, 'data');
    const proxy = await running(t, '--with-rules');
    const client = connect({ port: 8001, host: FAR[0]!, allowHalfOpen: true }).end();
    await proxy.until('stdout', /:8001 .* end\n/);
    const ended = end(proxy, 'SIGTERM');
    await changed();
    await delay(1000);
    let count = 0;
    client.on('data', (data) => (count += data.length));
    await once(client, 'end');
    t.equal(count, BYTES, 'gets it, though the proxy has nothing more to do');
    t.equal(await ended, 0);
    t.equal(traces(), before);
  });

  t.test('kill -9 while it drains, and a start after it', async (t) => {
    const killed = await running(t, '--with-rules', '--mode', 'tproxy');
    await dialAll(dials);
    killed.child.kill('SIGTERM');
    await changed();
    await killAll(killed);
    const next = await running(t, '--with-rules');
    t.notMatch(traces(), /new connection|tproxy/);
    host.hangUp();
    await dialAll(dials);
    host.hangUp();
    await next.until('stdout', /(:8000 redirect .*\n[^]*){2}/);
    t.equal(await end(next, 'SIGINT'), 0);
    t.equal(traces(), before);
  });

  t.test('a change of rules that fails', async (t) => {
    const bin = mkdtempSync(join(tmpdir(), 'nft-'));
    writeFileSync(
      join(bin, 'nft'),
      `#!/bin/sh
      input=$(cat)
      case "$input" in *"new connection"*) echo broken >&2; exit 1 ;; esac
      echo "$input" | PATH=/usr/sbin:/sbin:/usr/bin:/bin nft "$@"\n`,
    );
    chmodSync(join(bin, 'nft'), 0o755);
    const env = { PATH: `${bin}:${process.env['PATH']}` };
    const proxy = new RunningCli(t, ['proxy', '--listen', '0', '--with-rules', '--grace', '3600'], env);
    await proxy.until('stderr', /listening on/);
    await dialAll(dials);
    t.equal(await end(proxy, 'SIGTERM'), 1);
    t.match(proxy.stderr, /original-dst: nft -f - failed with status 1: broken/);
    t.same(over(await lookAgain(dials)), [true, true], 'the clients are told');
    t.equal(traces(), before, 'its rules are gone all the same');
  });
});
