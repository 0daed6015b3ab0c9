// A DNS server for all that this host (or the hosts behind it) asks of any resolver: answers names of its own, and
// forwards the rest to the resolver that the client meant. The client sees that resolver answer.
import { type Socket } from 'node:net';
import { parseArgs } from 'node:util';
import * as dns from 'dns-packet';
import {
  connect,
  createDatagramSocket,
  createServer,
  type DatagramInfo,
  type Endpoint,
  type InterceptedSocket,
} from 'original-dst';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    port: { type: 'string', default: '15053' },
    transparent: { type: 'boolean', default: false },
    mark: { type: 'string', default: '0' },
    zones: { type: 'string', default: '0,1,2' },
  },
});
const port = Number(values.port);
const mark = Number(values.mark);
const { transparent } = values;
const TIMEOUT = 5000;
const MAX_PENDING = 500;

/** Names of its own: `name=address`, as often as wanted. */
const own = new Map<string, string[]>();
for (const positional of positionals) {
  const [name = '', address = ''] = positional.toLowerCase().split('=');
  own.set(name, [...(own.get(name) ?? []), address]);
}

type Ask = { source: Readonly<Pick<Endpoint, 'address' | 'port'>>; kind: string; to: Endpoint | undefined };

function log({ source, kind, to }: Ask, what: string, outcome: string): void {
  const resolver = to ? `${to.address} ${to.port}` : 'nobody knows whom';
  console.log(`${source.address} ${source.port} asked ${resolver} (${kind}) for ${what}: ${outcome}`);
}

/** A header that says no: dns-packet cannot encode what it could not decode. */
function refusal(query: Buffer, rcode: number): Buffer {
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 4);
  header[2] = header[2]! | 0x80;
  header[3] = rcode;
  return header;
}
const [FORMERR, SERVFAIL, REFUSED] = [1, 2, 5] as const;

/** The answer if it can be given here; undefined: ask the resolver; null: not worth an answer. */
function answer(query: Buffer, ask: Ask): Buffer | null | undefined {
  if (query.length < 12 || (query[2]! & 0x80) !== 0) return null;
  let packet: dns.DecodedPacket;
  try {
    packet = dns.decode(query);
  } catch {
    log(ask, 'something malformed', 'FORMERR');
    return refusal(query, FORMERR);
  }
  const [question, ...more] = packet.questions ?? [];
  if (question === undefined || more.length > 0) return refusal(query, FORMERR);
  // A name may hold any byte, and terminals obey some.
  const what = `${question.name.replace(/[^\w.-]/g, '?')} ${question.type}`;
  const addresses = own.get(question.name.toLowerCase());
  if (addresses !== undefined) {
    log(ask, what, 'answered');
    const type = (address: string): 'A' | 'AAAA' => (address.includes(':') ? 'AAAA' : 'A');
    return dns.encode({
      type: 'response',
      id: packet.id!,
      flags: dns.AUTHORITATIVE_ANSWER | dns.RECURSION_AVAILABLE | (packet.flags! & dns.RECURSION_DESIRED),
      questions: [question],
      answers: addresses
        .filter((address) => type(address) === question.type)
        .map((data) => ({ name: question.name, type: type(data), ttl: 60, data })),
      additionals: (packet.additionals ?? []).some((record) => record.type === 'OPT')
        ? [
            {
              name: '.',
              type: 'OPT',
              udpPayloadSize: 1232,
              extendedRcode: 0,
              ednsVersion: 0,
              flags: 0,
              options: [],
            } as never,
          ]
        : [],
    });
  }
  if (ask.to === undefined) log(ask, what, 'SERVFAIL');
  else if (ask.kind === 'direct') log(ask, what, 'refused: this is no resolver');
  else {
    log(ask, what, 'forwarded');
    return undefined;
  }
  return refusal(query, ask.to === undefined ? SERVFAIL : REFUSED);
}

const udp = createDatagramSocket({
  port,
  transparent,
  mark,
  conntrackZones: values.zones.split(',').map(Number),
});
let pending = 0;

/** A socket for each question: its port is as hard to guess as its id. */
function forward(query: Buffer, info: DatagramInfo, resolver: Readonly<Endpoint>): void {
  if (pending >= MAX_PENDING) return;
  const socket = createDatagramSocket({ address: resolver.family === 'IPv4' ? '0.0.0.0' : '::', mark });
  pending++;
  const timer = setTimeout(() => socket.close(), TIMEOUT);
  socket.once('close', () => {
    clearTimeout(timer);
    pending--;
  });
  socket.on('message', (data, { source }) => {
    const expected = source.address === resolver.address && source.port === resolver.port;
    if (!expected || data.length < 12 || data.readUInt16BE() !== query.readUInt16BE()) return;
    socket.close();
    // A truncated answer goes through as it is: the client then comes by TCP, below.
    reply(data, info);
  });
  const error = socket.send(query, { destination: resolver });
  if (error) {
    console.error(error.message);
    socket.close();
  }
}

function reply(data: Buffer, info: DatagramInfo): void {
  const error = udp.reply(data, info);
  if (error) console.error(error.message);
}

udp.on('message', (query, info) => {
  const { source, kind, destination } = info;
  const given = answer(query, { source, kind, to: destination });
  if (given) reply(given, info);
  else if (given === undefined) forward(query, info, destination!);
});

/** Cuts a stream into messages, each of which has two bytes of length before it. */
async function* messages(stream: Socket): AsyncGenerator<Buffer> {
  let left = Buffer.alloc(0);
  // Left to itself the iterator destroys a socket of which only the reading side has ended.
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    left = Buffer.concat([left, chunk]);
    while (left.length >= 2 && left.length >= 2 + left.readUInt16BE()) {
      const end = 2 + left.readUInt16BE();
      yield left.subarray(2, end);
      left = left.subarray(end);
    }
  }
}

const framed = (message: Buffer): Buffer => {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
};

async function serve(client: InterceptedSocket): Promise<void> {
  const { originalDst } = client;
  const to = originalDst.kind === 'unknown' ? undefined : originalDst;
  const ask = {
    source: { address: client.remoteAddress!, port: client.remotePort! },
    kind: originalDst.kind,
    to,
  };
  let upstream: Socket | undefined;
  let unanswered = 0;
  let asked = false;
  // A client may send FIN behind its last question; the resolver may take ours for "no answer wanted", so that goes out
  // behind the last answer.
  const endWhenAnswered = (): void => {
    if (asked && unanswered <= 0) upstream!.end();
  };
  const passAnswers = async (from: Socket): Promise<void> => {
    for await (const message of messages(from)) {
      client.write(framed(message));
      unanswered--;
      endWhenAnswered();
    }
    client.end();
  };
  for await (const query of messages(client)) {
    const given = answer(query, ask);
    if (given) client.write(framed(given));
    if (given !== undefined) continue;
    if (upstream === undefined) {
      upstream = connect({
        address: to!.address,
        port: to!.port,
        timeout: TIMEOUT,
        allowHalfOpen: true,
        ...(mark ? { mark } : {}),
      });
      upstream.on('timeout', () => upstream!.destroy()).on('error', () => client.destroy());
      client.on('close', () => upstream!.destroy());
      passAnswers(upstream).catch(() => client.destroy());
    }
    upstream.write(framed(query));
    unanswered++;
  }
  asked = true;
  if (upstream === undefined) client.end();
  else endWhenAnswered();
}

const tcp = createServer({ transparent, allowHalfOpen: true }, (client) => {
  client.setTimeout(2 * TIMEOUT, () => client.destroy());
  client.on('error', () => {}); // also once its questions have been read to their end
  serve(client).catch(() => client.destroy());
});
tcp.listen({ port: udp.address().port }, () =>
  console.log(`listening on ${udp.address().port}, UDP and TCP`),
);
