// Restarts of a relay server in which no client is refused, cut or left waiting, by each way of handing over.
import { once } from 'node:events';
import { connect } from 'node:net';
import t, { type Test } from 'tap';
import { binding } from '../../lib/binding.ts';
import { createRelayServer, type RelayListenOptions, type RelayServer } from '../../lib/index.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { relayNetwork, talk, until } from '../fixtures/relay-network.ts';
import { closed } from '../fixtures/relay-world.ts';

const FAR = '198.51.100.7';
const RESTARTS = 2;
const CLIENTS = 12;

async function started(listen: RelayListenOptions, threads = 1): Promise<RelayServer> {
  const server = createRelayServer({ mark: 7, threads, decide: () => ({ action: 'relay', ttl: 60_000 }) });
  await once(server.listen(listen), 'listening');
  return server;
}

/** Clients, one after the other in each of several rows, until they are told to stop: how they fared. */
function load(): { stop: () => Promise<Record<string, number>>; count: () => number } {
  const fates: Record<string, number> = {};
  const state = { on: true };
  let count = 0;
  const row = async (): Promise<void> => {
    while (state.on) {
      const words = `words ${count++}`;
      const { data, end } = await talk(FAR, 7000, words);
      const fate = data === words ? end : `${end} after ${data.length} bytes`;
      fates[fate] = (fates[fate] ?? 0) + 1;
    }
  };
  const rows = Array.from({ length: CLIENTS }, row);
  return {
    count: () => count,
    stop: async () => {
      state.on = false;
      await Promise.all(rows);
      return fates;
    },
  };
}

async function restarts(
  t: Test,
  first: RelayListenOptions,
  next: (running: RelayServer) => RelayListenOptions,
  threads?: number,
): Promise<void> {
  const before = openSockets();
  let running = await started(first, threads);
  const clients = load();
  for (let i = 0; i < RESTARTS; i++) {
    const successor = await started(next(running), threads);
    const served = clients.count();
    await running.drain();
    t.equal(running.stats.open, 0);
    running = successor;
    await until(() => clients.count() > served + 4 * CLIENTS);
    t.ok(running.stats.accepted > 0, 'and is used');
  }
  t.same(Object.keys(await clients.stop()), ['fin'], 'every client was served');
  await running.drain();
  t.same(await socketsLeft(before), []);
}

await inNamespace(t, import.meta.url, async () => {
  await relayNetwork(t);

  t.test('the successor has a socket of its own: reusePort', (t) =>
    restarts(t, { port: 15001, reusePort: true }, () => ({ port: 15001, reusePort: true })),
  );

  t.test('the successor has the same socket, several threads each', (t) =>
    restarts(t, { port: 15001 }, ({ fd }) => ({ fd: binding().duplicateFd(fd!) }), 2),
  );

  t.test('with reusePort the descriptor may still be passed on', async (t) => {
    const first = await started({ port: 15001, reusePort: true });
    const second = await started({ fd: binding().duplicateFd(first.fd!) });
    await first.drain();
    t.same(await talk(FAR, 7000, 'words'), { data: 'words', end: 'fin' });
    await second.drain();
  });

  t.test('drain() waits for as long as it is told to', async (t) => {
    const server = await started({ port: 15001 });
    const client = connect(7000, FAR);
    client.write('?');
    await once(client, 'data');
    for (const signal of [AbortSignal.timeout(10), AbortSignal.abort('no time')])
      await t.rejects(server.drain({ signal }), {
        code: 'ERR_DRAIN_ABORTED',
        left: 1,
        message: /1 connections/,
      });
    t.equal(server.stats.open, 1, 'what is left goes on');
    client.write('!');
    await once(client, 'data');
    const patient = new AbortController();
    const drained = server.drain({ signal: patient.signal });
    client.end();
    await Promise.all([drained, closed(client.resume())]);
    patient.abort();
    await server.drain();
    await createRelayServer({ decide: () => 'relay' }).drain();
    await t.rejects(server.drain({ signal: 7 as never }), { code: 'ERR_INVALID_ARG_TYPE' });
  });
});
