// Urgent data (send(2) with MSG_OOB), which Node cannot send: splice(2) stops in front of it, and recv(2) drops it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { json } from 'node:stream/consumers';
import t, { type Test } from 'tap';
import { relay, type RelayOutcome } from '../../lib/index.ts';

/**
 * The client before and the server behind a relay. What is sent: numbers of ordinary bytes, and `!`, an urgent byte.
 * The server has SO_OOBINLINE, so that it sees where in the stream the urgent byte was, and answers when all is there.
 */
const ENDS = `
import array, fcntl, json, select, socket, sys, threading
relay, rounds, parts, end = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3]), sys.argv[4]
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
listener.bind(('127.0.0.1', 0))
listener.listen()
# Whatever does not get through fails the test, and does not hang it.
listener.settimeout(20)
# In one write(2), flushed: with PYTHONUNBUFFERED print() makes two, without it may make none.
sys.stderr.write(f'{listener.getsockname()[1]}\\n')
sys.stderr.flush()
whole = b''.join(b'!' if part == '!' else bytes([97 + at]) * part for at, part in enumerate(parts))

def at_mark(sock):
    select.select([sock], [], [])
    at = array.array('i', [0])
    fcntl.ioctl(sock.fileno(), 0x8905, at) # SIOCATMARK
    return at[0] == 1

def serve(seen):
    accepted, _ = listener.accept()
    accepted.settimeout(20)
    got, marks = b'', []
    while len(got) < len(whole):
        # A read that could go past the mark stops there.
        if at_mark(accepted): marks.append(len(got))
        chunk = accepted.recv(1 << 16)
        if not chunk: break
        got += chunk
    seen.update(whole=got == whole, missing=len(whole) - len(got), marks=marks)
    accepted.sendall(b'answer')
    accepted.close()

def round():
    seen = {}
    server = threading.Thread(target=serve, args=[seen], daemon=True)
    server.start()
    client = socket.create_connection(('127.0.0.1', relay), 20)
    for at, part in enumerate(parts):
        if part == '!': client.send(b'!', socket.MSG_OOB)
        else: client.sendall(bytes([97 + at]) * part)
    if end == 'fin': client.shutdown(socket.SHUT_WR)
    answer = b''
    try:
        while chunk := client.recv(100): answer += chunk
        seen['answer'] = answer.decode()
    except OSError as error: seen['answer'] = str(error)
    client.close()
    server.join()
    return seen

print(json.dumps([round() for _ in range(rounds)]))
`;

interface Seen {
  whole: boolean;
  missing: number;
  marks: number[];
  answer: string;
}

async function send(
  t: Test,
  parts: (number | '!')[],
  end: 'fin' | 'open',
  rounds: number,
): Promise<{ seen: Seen[]; relays: { outcome: RelayOutcome; bytes: number }[] }> {
  const ended: Promise<{ outcome: RelayOutcome; bytes: number }>[] = [];
  // The first client may be there before the port has been read.
  let upstreamPort: Promise<[string]>;
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, async (client: Socket) => {
    const [port] = await upstreamPort;
    const to = { address: '127.0.0.1', port: Number(port) };
    // The addon prepares a socket of Node's for this, and one that it has dialled.
    const joined =
      ended.length % 2 === 0
        ? relay(client, connect({ port: to.port, host: to.address, allowHalfOpen: true }))
        : relay(client, to);
    ended.push(
      new Promise((resolve) => {
        joined.once('close', (outcome) => resolve({ outcome, bytes: joined.bytesToUpstream }));
      }),
    );
  });
  server.listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const ends = spawn('python3', ['-c', ENDS, String(port), String(rounds), JSON.stringify(parts), end]);
  t.teardown(() => ends.kill());
  ends.stderr.setEncoding('utf8');
  upstreamPort = once(ends.stderr, 'data') as Promise<[string]>;
  await upstreamPort;
  ends.stderr.on('data', (text: string) => void t.fail(text));
  const seen = (await json(ends.stdout)) as Seen[];
  server.close();
  return { seen, relays: await Promise.all(ended) };
}

for (const [name, parts, end, rounds] of [
  ['in the middle of a large stream', [2_000_000, '!', 500_000], 'fin', 10],
  ['in the middle of a large stream that stays open', [2_000_000, '!', 500_000], 'open', 3],
  ['in front of the FIN of a large stream', [2_000_000, '!'], 'fin', 5],
  ['last, and the client waits for its answer', [2_000_000, '!'], 'open', 3],
  ['first', ['!', 5000], 'fin', 3],
  ['alone', ['!'], 'fin', 3],
  ['in the middle of a few bytes', [5, '!', 5], 'open', 3],
] as const) {
  t.test(`an urgent byte ${name}`, async (t) => {
    const { seen, relays } = await send(t, [...parts], end, rounds);
    const place = parts.indexOf('!') === 0 ? 0 : Number(parts[0]);
    const size = parts.reduce<number>((sum, part) => sum + (part === '!' ? 1 : part), 0);
    for (const one of seen) t.same(one, { whole: true, missing: 0, marks: [place], answer: 'answer' });
    for (const one of relays) t.same(one, { outcome: { reason: 'end' }, bytes: size });
    t.equal(relays.length, rounds);
  });
}
