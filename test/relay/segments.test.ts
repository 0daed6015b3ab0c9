// What a relay makes of bytes and of what ends them, when it finds the two together.
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { relay, type RelayOutcome } from '../../lib/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { connections, readAll, world } from '../fixtures/relay-world.ts';

/** What the kernel knows of a socket; nothing once it is closed. */
function tcpInfo({ localPort, remotePort }: Socket): string {
  return sh(`ss -tinH 'sport = ${localPort} and dport = ${remotePort}'`);
}

/** How many segments a socket has received, SYN and those without data included. */
function segmentsIn(socket: Socket): number {
  return Number(/ segs_in:(\d+)/.exec(tcpInfo(socket))![1]);
}

await inNamespace(t, import.meta.url, async () => {
  await t.test('bytes and FIN go on as one segment', async (t) => {
    const { left, client, upstream, right } = await world(t, await connections(t, { pauseOnConnect: true }));
    const before = segmentsIn(right);
    left.end('all of it');
    // A busy machine delivers even over loopback when it has time to.
    while (!tcpInfo(client).startsWith('CLOSE-WAIT')) await setTimeout(5);
    relay(client, upstream);
    t.same(await readAll(right), { data: Buffer.from('all of it'), end: 'fin' });
    t.equal(segmentsIn(right) - before, 1);
  });

  await t.test('bytes go on before the RST that came with them', async (t) => {
    const { left, client, upstream, right } = await world(t, await connections(t, { pauseOnConnect: true }));
    left.write('the last');
    await new Promise((resolve) => left.write(' words', resolve));
    left.resetAndDestroy();
    const joined = relay(client, upstream);
    const atRight = readAll(right);
    t.same(((await once(joined, 'close')) as [RelayOutcome])[0], { reason: 'reset', side: 'client' });
    t.equal(joined.bytesToUpstream, 14);
    t.equal(String((await atRight).data), 'the last words');
  });
});
