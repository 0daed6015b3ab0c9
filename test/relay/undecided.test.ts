// Connections whose decision takes its time: what becomes of them when somebody does not want to wait.
import { once } from 'node:events';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { connect, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import {
  createRelayServer,
  type Endpoint,
  type PendingConnection,
  type RelayDecision,
  type RelayServer,
  type RelayServerOptions,
} from '../../lib/index.ts';
import { closed, readAll } from '../fixtures/relay-world.ts';
import { openSockets, socketsLeft } from '../fixtures/descriptors.ts';

/** A question to the policy that waits for its answer. */
interface Question {
  connection: PendingConnection;
  answer: (decision: RelayDecision) => void;
  fail: (error: Error) => void;
}

/** A server whose policy answers when the test does. */
async function start(
  t: Test,
  options: Partial<RelayServerOptions> = {},
): Promise<{ server: RelayServer; next: () => Promise<Question>; errors: Error[] }> {
  const asked: Question[] = [];
  const wanted: ((question: Question) => void)[] = [];
  const server = createRelayServer({
    decide: (_destination, _client, _first, connection) =>
      new Promise((answer, fail) => {
        const question = { connection, answer, fail };
        const waiting = wanted.shift();
        if (waiting) waiting(question);
        else asked.push(question);
      }),
    ...options,
  });
  const errors: Error[] = [];
  server.on('error', (error) => errors.push(error));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.destroy());
  const next = async (): Promise<Question> =>
    asked.shift() ?? new Promise<Question>((resolve) => wanted.push(resolve));
  return { server, next, errors };
}

function dial(server: RelayServer): Socket {
  const client = connect({ port: server.address()!.port, host: '127.0.0.1', allowHalfOpen: true });
  return client.on('error', () => {});
}

async function aborted({ connection: { signal } }: Question): Promise<Error & { code: string }> {
  if (!signal.aborted) await once(signal, 'abort');
  return signal.reason as Error & { code: string };
}

async function close(server: RelayServer): Promise<void> {
  server.close();
  await once(server, 'close');
}

t.test('a client that resets is gone: the policy hears of it, the descriptor is free', async (t) => {
  const { server, next, errors } = await start(t);
  const before = openSockets();
  const clients = Array.from({ length: 20 }, () => dial(server));
  const questions = [];
  for (const _ of clients) questions.push(await next());
  const late = questions.pop()!;
  for (const client of clients) client.resetAndDestroy();
  for (const question of questions) t.equal((await aborted(question)).code, 'ERR_CLIENT_GONE');
  t.same(await socketsLeft(before), []);
  t.equal((await aborted(late)).code, 'ERR_CLIENT_GONE', 'also for who looks only now');
  t.match(server.stats, { accepted: 20, undecided: 20, gone: 20, reset: 0, refused: {} });
  // Nobody wants to know any more.
  questions[0]!.answer('emit');
  questions[1]!.fail(new Error('too late'));
  await close(server);
  t.same(errors, []);
});

t.test('a client that has said all that it has to say is waiting for its answer', async (t) => {
  const { server, next } = await start(t);
  const client = dial(server);
  client.end('question');
  const { connection, answer } = await next();
  // A place that was somebody else's before: what was heard of that one does not count.
  const other = dial(server);
  const first = await next();
  other.resetAndDestroy();
  await aborted(first);
  const third = dial(server);
  const { connection: kept } = await next();
  t.equal(connection.signal.aborted, false);
  t.equal(kept.signal.aborted, false);
  const given = once(server, 'connection') as Promise<[Socket]>;
  answer('emit');
  const [socket] = await given;
  t.equal(String((await readAll(socket)).data), 'question');
  socket.end('answer');
  t.same(await readAll(client), { data: Buffer.from('answer'), end: 'fin' });
  t.equal(connection.signal.aborted, false, 'decided, so that it stays as it was');
  third.destroy();
});

t.test('a decision that takes too long', async (t) => {
  const { server, next } = await start(t, { decisionTimeout: 50 });
  const client = dial(server);
  const question = await next();
  t.equal((await readAll(client)).end, 'ECONNRESET');
  t.match(await aborted(question), {
    code: 'ERR_DECISION_TIMEOUT',
    message: /50 ms/,
    hint: /decisionTimeout/,
  });
  t.match(server.stats, { gone: 0, refused: { ERR_DECISION_TIMEOUT: 1 } });
  await close(server);
});

t.test('one that may take for ever', async (t) => {
  const { server, next } = await start(t, { decisionTimeout: 0 });
  const client = dial(server);
  (await next()).answer('reset');
  t.equal((await readAll(client)).end, 'ECONNRESET');
  t.match(server.stats, { reset: 1, refused: {} });
  await close(server);
});

t.test('close() waits for the decision, destroy() does not', async (t) => {
  const { server, next, errors } = await start(t);
  const client = dial(server);
  const { connection, fail } = await next();
  connection.signal.addEventListener('abort', () => fail(connection.signal.reason as Error));
  let over = false;
  const called = new Promise<unknown>((resolve) =>
    server.close((error) => {
      over = true;
      resolve(error);
    }),
  );
  // What came before it is through.
  const again = new Promise((resolve) => server.close(resolve));
  const refused = connect(1, '127.0.0.1');
  await closed(refused.on('error', () => {}));
  t.equal(over, false);
  const ended = readAll(client);
  server.destroy();
  t.equal((connection.signal.reason as Error & { code: string }).code, 'ERR_SERVER_NOT_RUNNING');
  t.equal((await ended).end, 'ECONNRESET');
  t.equal(await called, undefined);
  t.equal(await again, undefined);
  t.same(errors, [], 'what a policy throws because it was told to stop is no error');
  t.match(await new Promise((resolve) => server.close(resolve)), { code: 'ERR_SERVER_NOT_RUNNING' });
});

t.test('await using', async (t) => {
  const { server } = await start(t);
  await server[Symbol.asyncDispose]();
  t.equal(server.address(), null);
  await createRelayServer({ decide: () => 'reset' })[Symbol.asyncDispose]();
});

t.test('a policy that ends the server, and then says relay', async (t) => {
  const { server } = await start(t, {
    decide: () => {
      server.destroy();
      return 'relay';
    },
  });
  const over = once(server, 'close');
  t.equal((await readAll(dial(server))).end, 'ECONNRESET');
  await over;
  t.match(server.stats, { reset: 1, relayed: 0, open: 0 });
});

t.test('the diagnostics channels of createServer', async (t) => {
  const seen: unknown[] = [];
  const listen = (message: unknown): void => void seen.push(message);
  subscribe('original-dst:connection', listen);
  t.teardown(() => unsubscribe('original-dst:connection', listen));
  let from: Endpoint | undefined;
  const { server } = await start(t, {
    decide: (_destination, client) => {
      from = client;
      return 'reset';
    },
  });
  await readAll(dial(server));
  t.equal(seen.length, 1);
  const { server: by, client: peer, originalDst } = seen[0] as Record<string, unknown>;
  t.equal(by, server);
  t.match(from, { address: '127.0.0.1', family: 'IPv4' });
  t.same(peer, from);
  t.match(originalDst, { kind: 'direct', port: server.address()!.port });
  t.match(server.stats, { direct: 1, redirect: 0, errors: {} });
  await close(server);
});
