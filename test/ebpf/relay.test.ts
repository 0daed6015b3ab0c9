// createRelayServer() behind a capture: its thread reads the table itself. And the proxy's own dials, which must not be
// captured, or are refused as a loop when they are.
import t, { type Test } from 'tap';
import { attachCapture, type CaptureOptions } from '../../lib/ebpf/index.ts';
import type { OriginalDst } from '../../lib/index.ts';
import { inCaptureNamespace, limited, makeCgroup, moveInto, startClient } from '../fixtures/captured.ts';
import { asUser } from '../fixtures/other-user.ts';
import { relayNetwork, start } from '../fixtures/relay-network.ts';

const PORT = 15001;
const ECHO = `
def echo(address, port, words):
    s = dial(address, port); s.sendall(words.encode()); s.shutdown(socket.SHUT_WR); return s.recv(99).decode()
`;
const talk = (address: string, words: string, port = 7002): string =>
  `answer = echo('${address}', ${port}, '${words}')`;

async function relays(t: Test): Promise<void> {
  const cgroup = makeCgroup(t);
  const client = startClient(t, { cgroup });
  await client(ECHO);
  const attach = (options: Partial<CaptureOptions> = {}) => attachCapture({ cgroup, port: PORT, ...options });

  await t.test('a lasting verdict: the thread knows where each was going', async (t) => {
    await using capture = attach();
    const asked: OriginalDst[] = [];
    await using server = await start({
      mark: 7,
      decide: (destination) => {
        asked.push(destination);
        return { action: 'relay', ttl: 60_000 };
      },
    });
    for (const address of ['198.51.100.7', '2001:db8::2'])
      for (const words of ['one', 'two', 'three'])
        t.equal(await client(talk(address, words)), words, `${address}: ${words}`);
    t.match(asked, [
      { kind: 'ebpf', address: '198.51.100.7', port: 7002 },
      { kind: 'ebpf', address: '2001:db8::2', port: 7002 },
    ]);
    t.equal(asked.length, 2, 'asked once about each');
    t.match(server.stats, { accepted: 6, ebpf: 6, redirect: 0, direct: 0, relayed: 6, undecided: 2 });
    t.match(capture.stats, { captured: 6, aliases: 2 });
    const outsider = startClient(t);
    await outsider(ECHO);
    t.equal(await outsider(talk('198.51.100.7', 'redirected', 7000)), 'redirected');
    t.match(asked[2], { kind: 'redirect', port: 7000 }, 'what rules bring is as it was');
  });

  await t.test('several threads, several listeners', async (t) => {
    const asked: OriginalDst[] = [];
    await using capture = attach();
    await using server = await start({
      mark: 7,
      threads: 2,
      decide: (destination) => {
        asked.push(destination);
        return 'relay';
      },
    });
    await using another = await start({ mark: 7, decide: () => 'reset' }, PORT + 1);
    const dials = Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? '198.51.100.7' : '2001:db8::2'));
    for (const address of dials) t.equal(await client(talk(address, address)), address);
    t.same(
      asked.map((destination) => destination.kind === 'ebpf' && destination.address),
      dials,
    );
    t.equal(server.stats.ebpf, dials.length);
    t.match(await client(talk('127.0.0.1', 'direct', PORT + 1)), { error: 'ECONNRESET' });
    t.match(another.stats, { accepted: 1, direct: 1, ebpf: 0 }, 'who is not captured for is left alone');
    t.equal(capture.stats.captured, dials.length);
  });

  await t.test('a capture that comes later, and one that goes', async (t) => {
    const kinds: string[] = [];
    await using server = await start({
      decide: ({ kind }) => {
        kinds.push(kind);
        return 'reset';
      },
    });
    const dial = `answer = dial('192.0.2.77', 7002).recv(1).decode()`;
    {
      await using capture = attach();
      t.match(await client(dial), { error: 'ECONNRESET' });
      t.equal(capture.stats.captured, 1);
    }
    t.match(kinds, ['ebpf']);
    t.equal(server.stats.ebpf, 1);
  });

  await t.test('a proxy within the cgroup', async (t) => {
    const inner = makeCgroup(t, cgroup);
    moveInto(inner, process.pid);
    t.teardown(() => moveInto('/', process.pid));
    t.throws(() => attach(), { code: 'ERR_CAPTURE_SELF' });
    const fresh = startClient(t, { cgroup });
    await fresh(ECHO);

    await t.test('whose dials are exempt', async (t) => {
      for (const exempt of [{ marks: [7] }, { marks: ['0x7/0xf' as const] }, { cgroups: [inner] }]) {
        await using capture = attach({ exempt });
        await using server = await start({ mark: 7, decide: () => 'relay' });
        t.equal(await fresh(talk('198.51.100.7', 'hello')), 'hello', JSON.stringify(exempt));
        t.match(capture.stats, { captured: 1, exempt: 1 });
        t.equal(server.stats.ebpf, 1);
      }
      // Another user can be become by who has more rights.
      if (limited) return;
      const other = startClient(t, { cgroup, wrapper: asUser(4711) });
      await other(ECHO);
      await using capture = attach({ exempt: { uids: [4711] } });
      t.equal(await other(talk('198.51.100.7', 'by uid')), 'by uid');
      t.match(capture.stats, { captured: 0, exempt: 1 });
    });

    await t.test('whose dials are not: a loop, which is refused', async (t) => {
      await using capture = attach({ exempt: { uids: [4711] } });
      await using server = await start({ decide: () => 'relay' });
      t.match(await fresh(talk('198.51.100.7', 'hello')), { error: 'ECONNRESET' });
      t.match(server.stats, { accepted: 2, ebpf: 2, refused: { ERR_INTERCEPT_LOOP: 1 } });
      t.equal(capture.stats.captured, 2);
    });
  });
}

await inCaptureNamespace(t, import.meta.url, relays, { limited: true, prepare: relayNetwork });
