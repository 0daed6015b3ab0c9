// createRelayServer(): verdicts, lasting ones, and how they are taken back.
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { binding } from '../../lib/binding.ts';
import { type OriginalDst } from '../../lib/index.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { relayNetwork, start, talk, until } from '../fixtures/relay-network.ts';
import { closed } from '../fixtures/relay-world.ts';

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);

  t.test('a verdict is not forgotten for the many others that there are', async (t) => {
    let asked = 0;
    const server = await start({
      mark: 7,
      decide: () => {
        asked++;
        return { action: 'relay', ttl: 60_000 };
      },
    });
    const visit = async (): Promise<void> =>
      void t.same(await talk('198.51.100.7', 7000, 'x'), { data: 'x', end: 'fin' });
    await visit();
    const remember = (from: number, to: number): void => {
      for (let at = from; at < to; at++) {
        const address = `203.${at >> 16}.${(at >> 8) & 0xff}.${at & 0xff}`;
        // The first listener of this process. These last longer: they would push out the others.
        if (binding().relaySetVerdict(0, address, 80, 1, 3_600_000, false, -1, false, null, undefined) !== 0)
          t.fail(address);
      }
    };
    remember(0, 10_000);
    await visit();
    t.equal(asked, 1);
    // There is an end to it, and then the one that ends first is asked for again.
    remember(10_000, 300_000);
    await visit();
    t.equal(asked, 2);
    server.close();
    await once(server, 'close');
  });

  t.test('decided in TypeScript every time', async (t) => {
    const asked: OriginalDst[] = [];
    const server = await start({
      mark: 7,
      decide: (destination) => {
        asked.push(destination);
        return 'relay';
      },
    });
    const relays: string[] = [];
    server.on('relay', (joined, destination) => {
      joined.on('close', ({ reason }) =>
        relays.push(`${reason} ${destination.kind} ${joined.bytesToUpstream}`),
      );
    });
    t.match(server.address(), { port: 15001 });
    for (const words of ['one', 'two two']) {
      t.same(await talk('198.51.100.7', 7000, words), { data: words, end: 'fin' });
    }
    t.match(asked, [{ kind: 'redirect', address: '198.51.100.7', port: 7000 }, { kind: 'redirect' }]);
    await until(() => relays.length === 2);
    t.same(relays, ['end redirect 3', 'end redirect 7']);
    t.match(server.stats, { accepted: 2, redirect: 2, relayed: 2, undecided: 2, open: 0 });
    t.throws(() => server.listen(0), { code: 'ERR_SERVER_ALREADY_LISTEN' });
    server.close();
    await once(server, 'close');
    t.equal(server.address(), null);
    server.close();
  });

  t.test(
    'a lasting verdict: the thread goes on by itself, for that destination, for that time',
    async (t) => {
      const asked: string[] = [];
      const server = await start({
        mark: 7,
        decide: (destination) => {
          asked.push(
            destination.kind === 'unknown' ? 'unknown' : `${destination.address} ${destination.port}`,
          );
          return { action: 'relay', ttl: 60_000 };
        },
      });
      const large = 'x'.repeat(500_000);
      for (const words of ['first', 'second', large]) {
        t.same(await talk('198.51.100.7', 7000, words), { data: words, end: 'fin' });
      }
      t.same(asked, ['198.51.100.7 7000']);
      t.same(await talk('192.0.2.2', 7000, 'other'), { data: 'other', end: 'fin' });
      t.same(await talk('2001:db8::2', 7000, 'six'), { data: 'six', end: 'fin' });
      t.same(await talk('2001:db8::2', 7000, 'six again'), { data: 'six again', end: 'fin' });
      t.same(asked, ['198.51.100.7 7000', '192.0.2.2 7000', '2001:db8::2 7000']);
      await until(() => server.stats.open === 0);
      const size = `firstsecond${large}othersixsix again`.length;
      const { connectMs, durationMs, acceptedByThread, ...counts } = server.stats;
      t.same(acceptedByThread, [6]);
      for (const { counts } of [connectMs, durationMs])
        t.equal(
          counts.reduce((sum, count) => sum + count, 0),
          6,
        );
      t.same(counts, {
        accepted: 6,
        redirect: 6,
        tproxy: 0,
        direct: 0,
        unknown: 0,
        errors: {},
        gone: 0,
        ebpf: 0,
        proxy: 0,
        inspecting: 0,
        relayed: 6,
        reset: 0,
        failed: 0,
        undecided: 3,
        open: 0,
        bytesToUpstream: size,
        bytesToClient: size,
        refused: {},
        recordsDropped: 0,
      });

      server.revoke({ address: '198.51.100.7', port: 7000 });
      t.throws(() => server.revoke({ address: 'nowhere', port: 1 }), { code: 'ERR_INVALID_ARG_TYPE' });
      t.equal((await talk('198.51.100.7', 7000, 'y')).data, 'y');
      t.equal((await talk('192.0.2.2', 7000, 'y')).data, 'y');
      t.same(asked.slice(3), ['198.51.100.7 7000'], 'asked again about that one');
      server.revoke();
      t.equal((await talk('192.0.2.2', 7000, 'z')).data, 'z');
      t.same(asked.slice(4), ['192.0.2.2 7000']);

      // Open by the thread itself: close() waits, destroy() does not.
      const open = connect({ port: 7000, host: '192.0.2.2' });
      open.on('error', () => {});
      open.write('still here');
      await once(open, 'data');
      await until(() => server.stats.open === 1);
      server.close();
      t.equal(await Promise.race([once(server, 'close').then(() => 'closed'), sleep(100, 'waits')]), 'waits');
      const gone = closed(open);
      server.destroy();
      await Promise.all([once(server, 'close'), gone]);
      t.equal(server.stats.open, 0);
      server.destroy();
    },
  );

  t.test('what was promised before revoke() does not last', async (t) => {
    const answers: (() => void)[] = [];
    const server = await start({
      mark: 7,
      decide: async () => {
        await new Promise<void>((resolve) => answers.push(resolve));
        return { action: 'relay', ttl: 60_000 };
      },
    });
    const answer = async (count: number): Promise<void> => {
      await until(() => answers.length === count);
      answers[count - 1]!();
    };
    const first = talk('198.51.100.7', 7000, 'a');
    await until(() => answers.length === 1);
    server.revoke({ address: '198.51.100.7', port: 7000 });
    await answer(1);
    t.equal((await first).data, 'a');
    const second = talk('198.51.100.7', 7000, 'b');
    await until(() => answers.length === 2);
    server.revoke();
    await answer(2);
    t.equal((await second).data, 'b');
    const third = talk('198.51.100.7', 7000, 'c');
    await answer(3);
    t.equal((await third).data, 'c', 'asked again');
    t.equal((await talk('198.51.100.7', 7000, 'd')).data, 'd');
    t.equal(answers.length, 3, 'this one lasts');
    server.destroy();
    await once(server, 'close');
  });

  t.test('what nobody redirected is asked about each time', async (t) => {
    const kinds: string[] = [];
    const server = await start({
      decide: ({ kind }) => {
        kinds.push(kind);
        return { action: 'reset', ttl: 60_000 };
      },
    });
    for (let i = 0; i < 2; i++) t.equal((await talk('192.0.2.1', 15001, 'x')).end, 'ECONNRESET');
    t.same(kinds, ['direct', 'direct']);
    server.destroy();
    await once(server, 'close');
  });

  t.test('a verdict ends with its time', async (t) => {
    let asked = 0;
    const server = await start({
      mark: 7,
      decide: () => {
        asked++;
        return { action: 'relay', ttl: 100 };
      },
    });
    await talk('198.51.100.7', 7000, 'a');
    await sleep(150);
    await talk('198.51.100.7', 7000, 'b');
    t.equal(asked, 2);
    server.destroy();
    await once(server, 'close');
  });
});
