// With few descriptors, which are used up.
import { type ChildProcessByStdio, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { type ConnectionRecord, createRelayServer, relay, type RelayServer } from '../../lib/index.ts';
import { connections, readAll, world } from '../fixtures/relay-world.ts';

/** Opens files until there are no more descriptors, less `left`. Returns what closes them. */
function exhaust(left: number): () => void {
  const files: number[] = [];
  try {
    for (;;) files.push(openSync('/dev/null', 'r'));
  } catch {
    for (let i = 0; i < left; i++) closeSync(files.pop()!);
  }
  return () => files.forEach((fd) => closeSync(fd));
}

/**
 * Clients with descriptors of their own. `connect PORT COUNT` makes connections; `wait SECONDS` says how many have been
 * reset, at once when all have.
 */
const CLIENTS = `
import errno, select, socket, sys, time
def tell(words): # in one piece, also with PYTHONUNBUFFERED
    sys.stdout.write(f'{words}\\n')
    sys.stdout.flush()

clients = []
for line in sys.stdin:
    command, *numbers = line.split()
    if command == 'connect':
        sockets = [socket.socket() for _ in range(int(numbers[1]))]
        for one in sockets: one.setblocking(False)
        # A reset can be there already.
        codes = [one.connect_ex(('127.0.0.1', int(numbers[0]))) for one in sockets]
        clients = [one for one, code in zip(sockets, codes) if code != errno.ECONNRESET]
        refused = len(sockets) - len(clients)
        tell('connected')
        continue
    end, reset, waiting = time.time() + float(numbers[0]), refused, set(clients)
    while waiting and time.time() < end:
        for client in select.select(waiting, [], [], max(0, end - time.time()))[0]:
            try: client.recv(1)
            except ConnectionResetError: reset += 1
            waiting.remove(client)
    tell(f'{reset} of {len(sockets)}')
`;

class Clients {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;

  constructor(t: Test) {
    this.#child = spawn('python3', ['-c', CLIENTS], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout.setEncoding('utf8');
    t.teardown(() => this.#child.kill());
  }

  async ask(command: string): Promise<string> {
    this.#child.stdin.write(`${command}\n`);
    const [line] = (await once(this.#child.stdout, 'data')) as [string];
    return line.trim();
  }
}

/**
 * How often the relay thread is found running, or waiting for a processor, while it has nothing to do. Not how much of a
 * processor it takes: on a busy machine that is little even of a thread that spins.
 */
async function busyShare(state: number): Promise<number> {
  let busy = 0;
  const bytes = Buffer.alloc(64);
  for (let i = 0; i < 40; i++) {
    await delay(10);
    readSync(state, bytes, 0, bytes.length, 0);
    if (/\) R /.test(bytes.toString('latin1'))) busy++;
  }
  return busy / 40;
}

/** /proc/self/task/TID/stat of the relay thread, opened while there are descriptors. */
function openState(): number {
  const stats = readdirSync('/proc/self/task').map((id) => `/proc/self/task/${id}/stat`);
  return openSync(
    stats.find((stat) => readFileSync(stat, 'latin1').includes('(relay)'))!,
    'r',
  );
}

function resetting(): { server: RelayServer; records: ConnectionRecord[] } {
  const records: ConnectionRecord[] = [];
  const server = createRelayServer({ decide: () => 'reset' });
  server.on('records', (some) => records.push(...some));
  return { server, records };
}

// Not before everything is loaded: the loader opens many files at a time.
execFileSync('prlimit', ['--pid', String(process.pid), '--nofile=64:']);

const make = await connections(t);
// The thread itself needs two, and has given up those of the relay when that has closed.
const first = await world(t, make);
await once(relay(first.client, first.upstream).destroy(), 'close');
const state = openState();

t.test('none for the relay: a clear outcome, and both ends learn', async (t) => {
  const { left, client, upstream, right } = await world(t, make);
  const seen = [readAll(left), readAll(right)];
  const release = exhaust(0);
  const joined = relay(client, upstream);
  release();
  t.match(await once(joined, 'close'), [{ reason: 'error', error: { code: 'EMFILE', syscall: 'relay' } }]);
  for (const end of await Promise.all(seen)) t.equal(end.end, 'ECONNRESET');
});

t.test('none for a relay that dials: the same, and streams where they are allowed', async (t) => {
  const server = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const to = { address: '127.0.0.1', port: (server.address() as AddressInfo).port };
  const none = { reason: 'error', error: { code: 'EMFILE', syscall: 'relay' } };
  for (const [left, expected] of [
    [0, none],
    [1, { reason: 'error', side: 'upstream', error: { code: 'EMFILE', syscall: 'socket' } }],
  ] as const) {
    const { dialled, accepted: client } = await make();
    const heard = readAll(dialled);
    const release = exhaust(left);
    const joined = relay(client, to);
    release();
    t.match(await once(joined, 'close'), [expected]);
    t.equal((await heard).end, 'ECONNRESET');
  }
  for (const ahead of ['ahead ', '']) {
    const { dialled, accepted: client } = await make();
    dialled.write(ahead);
    if (ahead !== '') await once(client, 'readable');
    const release = exhaust(0);
    const joined = relay(client, to, { engine: 'any' });
    release();
    dialled.end('and after');
    t.equal(String((await readAll(dialled)).data), `${ahead}and after`);
    t.same(joined.outcome ?? (await once(joined, 'close'))[0], { reason: 'end' });
  }
});

t.test('none for the relay, and streams allowed: nothing is lost', async (t) => {
  const { left, client, upstream, right } = await world(t, make);
  left.write('ahead ');
  right.write('greeting ');
  await Promise.all([once(client, 'readable'), once(upstream, 'readable')]);
  const release = exhaust(0);
  const joined = relay(client, upstream, { engine: 'any' });
  release();
  left.end('and after');
  right.end('and goodbye');
  t.equal(String((await readAll(right)).data), 'ahead and after');
  t.equal(String((await readAll(left)).data), 'greeting and goodbye');
  t.same(joined.outcome ?? (await once(joined, 'close'))[0], { reason: 'end' });

  const silent = await world(t, make);
  const again = exhaust(0);
  const other = relay(silent.client, silent.upstream, { engine: 'any' });
  again();
  other.destroy();
  t.same(other.outcome, { reason: 'aborted' });
});

t.test('enough for the relay, none for a pipe: the bytes are copied', async (t) => {
  const { left, client, upstream, right } = await world(t, make);
  const release = exhaust(2);
  const joined = relay(client, upstream);
  left.end(Buffer.alloc(8 * 1024 * 1024, 'c'));
  right.end();
  left.resume();
  t.ok((await readAll(right)).data.equals(Buffer.alloc(8 * 1024 * 1024, 'c')));
  t.same(joined.outcome ?? (await once(joined, 'close'))[0], { reason: 'end' });
  release();
});

t.test('none for a client of a relay server: each is refused, and nothing spins', async (t) => {
  const clients = new Clients(t);
  const { server, records } = resetting();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const release = exhaust(0);
  t.equal(await clients.ask(`connect ${server.address()!.port} 20`), 'connected');
  t.equal(await clients.ask('wait 20'), '20 of 20');
  t.ok((await busyShare(state)) < 0.5);
  release();
  t.match(server.stats, { accepted: 20, failed: 20, undecided: 0 });
  await once(server.close(), 'close');
  t.equal(records.length, 20);
  const client = { address: '127.0.0.1', family: 'IPv4' };
  const expected = { client, destination: undefined, verdict: undefined, lasting: false, outcome: 'EMFILE' };
  for (const record of records) t.match(record, expected);
  t.equal(new Set(records.map((record) => record.client.port)).size, 20);
});

t.test('not even one to refuse a client with: they wait until there is, and nothing spins', async (t) => {
  const clients = new Clients(t);
  const release = exhaust(1);
  // The listening socket gets the last.
  const { server, records } = resetting();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  // What was closed before may give its descriptor back only now.
  await delay(100);
  const releaseLate = exhaust(0);
  t.equal(await clients.ask(`connect ${server.address()!.port} 20`), 'connected');
  t.ok((await busyShare(state)) < 0.5);
  t.equal(await clients.ask('wait 0'), '0 of 20');
  release();
  releaseLate();
  t.equal(await clients.ask('wait 20'), '20 of 20');
  const { accepted, failed, undecided } = server.stats;
  t.same([accepted, failed + undecided], [20, 20]);
  await once(server.close(), 'close');
  t.equal(records.length, 20);
});
