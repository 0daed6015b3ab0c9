// Datagrams that come and go together: UDP_GRO, UDP_SEGMENT.
import t from 'tap';
import { createDatagramSocket, type DatagramInfo, type InterceptedDatagramSocket } from '../../lib/index.ts';
import { tproxyRoutes } from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace, nft, sh } from '../fixtures/netns.ts';
import { nextMessage, redirectRules, tproxyRules } from '../fixtures/udp.ts';

/** As many bytes, of which every datagram has others. */
function numbered(length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, at) => (at * 31 + (at >> 8)) & 0xff));
}

function split(data: Buffer, segmentSize: number): string[] {
  const datagrams = [];
  for (let at = 0; at < data.length; at += segmentSize)
    datagrams.push(data.toString('hex', at, Math.min(at + segmentSize, data.length)));
  return datagrams;
}

interface Heard {
  datagrams: string[];
  infos: DatagramInfo[];
}

/** So many datagrams, whichever came together. */
async function hear(socket: InterceptedDatagramSocket, count: number): Promise<Heard> {
  const heard: Heard = { datagrams: [], infos: [] };
  await new Promise<void>((resolve) => {
    socket.on('message', function listener(data, info) {
      heard.datagrams.push(...split(data, info.segmentSize ?? data.length));
      heard.infos.push(info);
      if (heard.datagrams.length < count) return;
      socket.off('message', listener);
      resolve();
    });
  });
  return heard;
}

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();
  tproxyRoutes();

  for (const address of ['127.0.0.1', '::1']) {
    t.test(`${address}: there and back, the last datagram shorter`, async (t) => {
      const server = createDatagramSocket({ address, gro: true });
      const together = createDatagramSocket({ address, gro: true });
      const plain = createDatagramSocket({ address });
      t.teardown(() => [server, together, plain].forEach((socket) => socket.close()));
      const data = numbered(4300);
      const datagrams = split(data, 1000);

      for (const from of [together, plain]) {
        const arrived = hear(server, 5);
        const { port } = server.address();
        t.equal(from.send(data, { destination: { address, port }, segmentSize: 1000 }), undefined);
        const { datagrams: received, infos } = await arrived;
        t.same(received, datagrams);
        t.equal(infos.length, 1, 'in one piece');
        const [info] = infos as [DatagramInfo];
        t.match(info, { size: 4300, segmentSize: 1000, truncated: false, kind: 'direct' });

        const answered = hear(from, 5);
        t.equal(server.reply(data, info, info.segmentSize), undefined);
        const answer = await answered;
        t.same(answer.datagrams, datagrams);
        t.equal(answer.infos.length, from === together ? 1 : 5);
        if (from === plain) t.notOk('segmentSize' in answer.infos[0]!, 'only who asks for it is told');
      }
      t.equal(server.stats.direct, 10, 'datagrams are counted, not messages');
      t.equal(plain.stats.direct, 5);
    });
  }

  t.test('alone, empty, and more than go together', async (t) => {
    const address = '127.0.0.1';
    const server = createDatagramSocket({ address, gro: true, receiveBufferSize: 1 << 20 });
    t.teardown(() => server.close());
    const destination = server.address();
    for (const [data, segmentSize] of [
      ['one', undefined],
      ['one', 3],
      ['', 0],
      ['', 7],
    ] as const) {
      const message = nextMessage(server);
      t.equal(server.send(data, { destination, segmentSize }), undefined);
      const [received, info] = await message;
      t.equal(String(received), data);
      t.match(info, { size: data.length, segmentSize: data.length });
      t.equal(server.send(received, { destination: info.source, segmentSize: info.segmentSize }), undefined);
      t.equal(String((await nextMessage(server))[0]), data);
    }
    t.equal(server.stats.direct, 8);

    const many = numbered(2010);
    const arrived = hear(server, 201);
    t.equal(server.send(many, { destination, segmentSize: 10 }), undefined);
    t.same((await arrived).datagrams, split(many, 10));

    const large = numbered(200_000);
    const all = hear(server, 4);
    t.equal(server.send(large, { destination, segmentSize: 60_000 }), undefined);
    t.same((await all).datagrams, split(large, 60_000));
    t.match(server.send(large, { destination, segmentSize: 65_535 }), { code: 'EMSGSIZE' });
  });

  for (const [kind, rules] of [
    ['tproxy', tproxyRules],
    ['redirect', redirectRules],
  ] as const) {
    t.test(`${kind}: each message has the destination of all its datagrams`, async (t) => {
      const socket = createDatagramSocket({ transparent: kind === 'tproxy', gro: true });
      const client = createDatagramSocket({ address: '0.0.0.0', gro: true });
      t.teardown(() => [socket, client].forEach((each) => each.close()));
      nft(rules(socket.address().port));
      t.teardown(() => nft(`delete table inet udp_${kind}`));
      const data = numbered(2500);
      const arrived = hear(socket, 9);
      for (const address of ['198.51.100.7', '198.51.100.8', '198.51.100.7'])
        t.equal(client.send(data, { destination: { address, port: 53 }, segmentSize: 1000 }), undefined);
      const { infos } = await arrived;
      t.same(
        infos.map((info) => info.destination?.address),
        ['198.51.100.7', '198.51.100.8', '198.51.100.7'],
      );
      t.ok(infos.every((info) => info.kind === kind));
      for (const info of infos) {
        const answered = hear(client, 3);
        t.equal(socket.reply(data, info, info.segmentSize), undefined);
        const answer = await answered;
        t.same(answer.datagrams, split(data, 1000));
        t.same(answer.infos[0]!.source.address, info.destination!.address);
      }
    });
  }

  t.test('datagrams longer than the packets of the device go one by one', async (t) => {
    sh('ip link set lo mtu 1300');
    t.teardown(() => sh('ip link set lo mtu 65536'));
    const socket = createDatagramSocket({ address: '127.0.0.1', gro: true });
    t.teardown(() => socket.close());
    const data = numbered(5000);
    const arrived = hear(socket, 3);
    t.equal(socket.send(data, { destination: socket.address(), segmentSize: 2000 }), undefined);
    const { datagrams, infos } = await arrived;
    t.same(datagrams, split(data, 2000));
    t.equal(infos.length, 3);
  });
});
