// A connection whose conntrack entry is lost, and whose addresses another connection's entry answers for: that one's
// destination is not this one's. In the server that tells, and in the thread that relays by lasting verdicts.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { flushConntrack } from '../fixtures/connections.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';
import { internet } from '../fixtures/udp.ts';
import { unmeasured } from '../fixtures/unmeasured.ts';

const program = fileURLToPath(new URL('../fixtures/programs/destinations.js', import.meta.url));
const V4 = { from: '192.0.2.1', first: '198.51.100.7', second: '198.51.100.8', self: '127.0.0.1' };
const V6 = { from: '2001:db8:1::1', first: '2001:db8:2::7', second: '2001:db8:2::8', self: '::1' };

const REDIRECT = `
  chain redirect_output {
    type nat hook output priority -100
    meta mark != 7 ip daddr 198.51.100.0/24 tcp dport 80 redirect to :15001
    meta mark != 7 ip6 daddr 2001:db8:2::/64 tcp dport 80 redirect to :15001
  }`;

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 2000 && !condition(); i++) await delay(5);
  if (!condition()) throw new Error(`never came true: ${condition.toString()}`);
}

/** Starts the program. `while(body)` runs body while it stands still: what comes in meanwhile is accepted afterwards. */
async function startProxy(t: Test, mode: string) {
  const child = spawn(process.execPath, [program, mode], {
    env: unmeasured,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const lines: string[] = [];
  child.stdout.setEncoding('utf8').on('data', (text: string) => lines.push(...text.trim().split('\n')));
  await until(() => lines.length === 1);
  const stopped = (): boolean =>
    readdirSync(`/proc/${child.pid}/task`).every((task) =>
      readFileSync(`/proc/${child.pid}/task/${task}/stat`, 'latin1').includes(') T '),
    );
  return {
    /** What it has printed since the last call, once that are so many lines. */
    async printed(count: number): Promise<string[]> {
      await until(() => lines.length > count);
      return lines.splice(1);
    },
    async while(body: () => Promise<void>): Promise<void> {
      child.kill('SIGSTOP');
      await until(stopped);
      await body();
      child.kill('SIGCONT');
    },
  };
}

/** A server at each destination; only bytes that are meant for it should come there. */
async function startDestinations(t: Test): Promise<string[]> {
  const code = `
    for (const host of ${JSON.stringify([V4.first, V4.second, V6.first, V6.second])})
      require('node:net')
        .createServer((socket) => {
          socket.on('error', () => {}).on('data', (data) => console.log(host + ' got ' + data));
        })
        .listen(80, host, () => console.log('ready'));
  `;
  const args = ['netns', 'exec', 'internet', process.execPath, '-e', code];
  const child = spawn('ip', args, { env: unmeasured, stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const came: string[] = [];
  child.stdout.setEncoding('utf8').on('data', (text: string) => came.push(...text.trim().split('\n')));
  await until(() => came.length === 4);
  came.length = 0;
  return came;
}

let nextPort = 20_000;

await inNamespace(t, import.meta.url, async () => {
  internet([`${V4.first}/32`, `${V4.second}/32`, `${V6.first}/128`, `${V6.second}/128`]);
  nft(`table inet proxy {${REDIRECT}\n}`);

  for (const mode of ['server', 'relay']) {
    await t.test(mode, async (t) => {
      const proxy = await startProxy(t, mode);
      const came = await startDestinations(t);

      /** Dials from one port; the text that it sends says where it belongs. */
      const dial = (t: Test, localPort: number, { from }: typeof V4, host: string, port = 80): Socket => {
        const socket = connect({ host, port, localAddress: from, localPort, allowHalfOpen: true });
        t.teardown(() => socket.destroy());
        socket.on('error', () => {});
        return socket;
      };
      const dialled = async (...args: Parameters<typeof dial>): Promise<Socket> => {
        const socket = dial(...args);
        await once(socket, 'connect');
        return socket;
      };
      const known = (host: string): Promise<void> =>
        until(() => sh(`conntrack -L -d ${host} 2>/dev/null || true`).includes(host));
      const nothingWrong = (t: Test): void => {
        const wrong = came.filter((line) => !/^(\S+) got for \1$/.test(line));
        t.same(wrong, [], 'no byte came to the wrong place');
      };

      if (mode === 'relay') {
        // From here on the thread itself relays to these two.
        for (const addresses of [V4, V6]) {
          for (const host of [addresses.first, addresses.second]) {
            (await dialled(t, nextPort++, addresses, host)).write(`for ${host}`);
            t.same(await proxy.printed(1), [`redirect ${host} 80`]);
          }
        }
        await until(() => came.length === 4);
      }

      for (const [family, addresses] of Object.entries({ IPv4: V4, IPv6: V6 })) {
        const { first, second, self } = addresses;

        await t.test(`${family}: reset before it was accepted`, async (t) => {
          for (const [host, port] of [
            [second, 80],
            [self, 15001],
          ] as const) {
            const local = nextPort++;
            came.length = 0;
            await proxy.while(async () => {
              const one = await dialled(t, local, addresses, first);
              one.write(`for ${first}`);
              one.resetAndDestroy();
              await once(one, 'close');
              flushConntrack();
              (await dialled(t, local, addresses, host, port)).write(`for ${host}`);
            });
            const later = port === 80 ? `redirect ${host} 80` : `direct ${host} ${port}`;
            const expected = ['unknown ENOTCONN'];
            if (mode === 'server' || port !== 80) expected.push(later);
            else await until(() => came.length > 0);
            t.same(await proxy.printed(expected.length), expected);
            nothingWrong(t);
          }
        });

        await t.test(`${family}: connected, and a stranger’s SYN came to it`, async (t) => {
          const local = nextPort++;
          await proxy.while(async () => {
            const one = await dialled(t, local, addresses, first);
            one.write(`for ${first}`);
            await delay(20);
            flushConntrack();
            // The client's RST in answer to the proxy's surprise is lost, or only on its way.
            nft(`table inet lossy {
              chain output {
                type filter hook output priority 0
                tcp flags & rst == rst drop
              }
            }`);
            dial(t, local, addresses, second);
            await known(second);
          });
          t.same(await proxy.printed(1), ['unknown EADDRINUSE']);
          nft('delete table inet lossy');
          nothingWrong(t);
        });

        await t.test(`${family}: connected, and a stranger’s data came to it`, async (t) => {
          const local = nextPort++;
          await proxy.while(async () => {
            const one = await dialled(t, local, addresses, first);
            one.write(`for ${first}`);
            const two = await dialled(t, local, addresses, second);
            await delay(20);
            flushConntrack();
            two.write(`for ${second}`);
            await known(second);
          });
          t.same((await proxy.printed(2)).sort(), ['unknown EADDRINUSE', 'unknown ENOENT']);
          nothingWrong(t);
        });

        await t.test(
          `${family}: a client that sends again what was not acknowledged is no stranger`,
          async (t) => {
            const local = nextPort++;
            await proxy.while(async () => {
              const one = await dialled(t, local, addresses, first);
              nft(`table inet lossy {
              chain output {
                type filter hook output priority 0
                ct direction reply tcp flags & (syn | ack) == ack drop
              }
            }`);
              one.write(`for ${first}`);
              const accepting = `ss -Htnm sport = :15001 and dport = :${local}`;
              await until(() => /,d[1-9]\d*\)/.test(sh(accepting)));
              nft('delete table inet lossy');
            });
            t.same(await proxy.printed(1), [`redirect ${first} 80`]);
            nothingWrong(t);
          },
        );

        await t.test(`${family}: a client that has said all it had to say is no stranger`, async (t) => {
          const local = nextPort++;
          came.length = 0;
          await proxy.while(async () => {
            const one = await dialled(t, local, addresses, first);
            one.write(`for ${first}`);
            await delay(20);
            one.end();
            await delay(20);
          });
          if (mode === 'server') t.same(await proxy.printed(1), [`redirect ${first} 80`]);
          else await until(() => came.length > 0);
          nothingWrong(t);
        });
      }
    });
  }
});
