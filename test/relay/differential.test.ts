// Random conversations over a direct connection, through streams and through the addon's relay: both ends must see
// the same. ORIGINAL_DST_SEED and ORIGINAL_DST_RUNS change the seed and the number of conversations.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type Socket } from 'node:net';
import * as fc from 'fast-check';
import t, { type Test } from 'tap';
import { connectVia, createRelayServer, relay, type RelayOutcome } from '../../lib/index.ts';
import { standInProxy } from '../fixtures/proxies.ts';
import { connections, type Connection } from '../fixtures/relay-world.ts';

type Mode = 'direct' | 'pipe' | 'native';
type Step =
  | { do: 'write'; end: 0 | 1; size: number }
  | { do: 'pause' | 'resume' | 'fin'; end: 0 | 1 }
  | { do: 'settle' };
interface Script {
  steps: Step[];
  finish: { how: 'fin' | 'idle' } | { how: 'reset'; end: 0 | 1 };
}

const bytes = randomBytes(1 << 20);

/** One end of the conversation: what it said and what it saw. */
class Party {
  readonly socket: Socket;
  said = 0;
  heard = 0;
  readonly #hash = createHash('sha256');
  readonly #spoken = createHash('sha256');
  end: 'open' | 'fin' | 'broken' = 'open';
  saidFin = false;
  paused = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.heard += chunk.length;
      this.#hash.update(chunk);
    });
    socket.once('end', () => (this.end = 'fin'));
    socket.on('error', () => {
      if (this.end === 'open') this.end = 'broken';
    });
  }

  say(size: number): void {
    if (this.saidFin) return;
    const chunk = bytes.subarray(0, size);
    this.said += size;
    this.#spoken.update(chunk);
    this.socket.write(chunk);
  }

  saw(): { heard: number; hash: string; end: string } {
    return { heard: this.heard, hash: this.#hash.digest('hex'), end: this.end };
  }

  spoke(): string {
    return this.#spoken.digest('hex');
  }
}

async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 60_000; !condition();) {
    if (Date.now() > deadline) throw new Error('nothing moves any more');
    await sleep(1);
  }
}

/** Has everybody who listens heard everything? */
function allIsHeard(parties: [Party, Party]): boolean {
  return ([0, 1] as const).every((end) => {
    const [listener, speaker] = [parties[end], parties[end === 0 ? 1 : 0]];
    if (listener.paused || listener.end === 'broken') return true;
    return listener.heard === speaker.said && (!speaker.saidFin || listener.end === 'fin');
  });
}

interface Result {
  saw: { heard: number; hash: string; end: string; whole: number }[];
  spoken: string[];
  reason: string | undefined;
}

type Make = () => Promise<Connection>;

/**
 * `onward` makes the relay's upstream. Undefined: the machine stood still for so long that the relay was idle in the
 * middle of the conversation.
 */
async function perform(mode: Mode, script: Script, make: Make, onward: Make): Promise<Result | undefined> {
  const one = await make();
  let parties: [Party, Party];
  let closed: Promise<[RelayOutcome]> | undefined;
  let idle = false;
  const all = [one.dialled, one.accepted];
  if (mode === 'direct') {
    parties = [new Party(one.dialled), new Party(one.accepted)];
  } else {
    const two = await onward();
    all.push(two.dialled, two.accepted);
    parties = [new Party(one.dialled), new Party(two.accepted)];
    const idleTimeout = script.finish.how === 'idle' ? 60 : 0;
    const joined = relay(one.accepted, two.dialled, { engine: mode, idleTimeout });
    closed = once(joined, 'close') as Promise<[RelayOutcome]>;
    joined.once('close', ({ reason }) => (idle = reason === 'idle'));
  }
  const settle = (): Promise<void> => until(() => idle || allIsHeard(parties));
  for (const step of script.steps) {
    if (step.do === 'settle') {
      await settle();
      continue;
    }
    const party = parties[step.end];
    if (step.do === 'write') party.say(step.size);
    if (step.do === 'pause') {
      party.paused = true;
      party.socket.pause();
    }
    if (step.do === 'resume') {
      party.paused = false;
      party.socket.resume();
    }
    if (step.do === 'fin' && !party.saidFin) {
      party.saidFin = true;
      party.socket.end();
    }
  }
  for (const party of parties) {
    party.paused = false;
    party.socket.resume();
  }
  await settle();
  if (!allIsHeard(parties)) {
    for (const socket of all) socket.destroy();
    return undefined;
  }
  if (script.finish.how === 'fin') {
    for (const party of parties) {
      party.saidFin = true;
      party.socket.end();
    }
    await settle();
  } else if (script.finish.how === 'reset') {
    const breaker = parties[script.finish.end];
    const witness = parties[script.finish.end === 0 ? 1 : 0];
    breaker.socket.resetAndDestroy();
    // A socket that has ended is not looked at any more.
    if (!breaker.saidFin) await until(() => witness.end === 'broken');
    witness.socket.destroy();
  } else if (mode === 'direct') {
    // What a relay does with two that have nothing to say, one end does here.
    for (const party of parties) party.socket.end();
    await until(() => parties.every(({ end }) => end === 'fin'));
  } else {
    await until(() => parties.every(({ end }) => end === 'fin'));
  }
  const [outcome] = (await closed) ?? [];
  const saw = parties.map((party, end) => {
    const other = parties[end === 0 ? 1 : 0];
    return { ...party.saw(), whole: other.said };
  });
  const spoken = parties.map((party) => party.spoke());
  for (const socket of all) socket.destroy();
  return { saw, spoken, reason: mode === 'direct' ? undefined : outcome?.reason };
}

const end = fc.constantFrom<0 | 1>(0, 1);
const size = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 3000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 1 << 20 }) },
  { weight: 1, arbitrary: fc.constantFrom(65535, 65536, 65537, 262144) },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('write' as const), end, size }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('pause' as const, 'resume' as const), end }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fin' as const), end }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('settle' as const) }) },
);
const script: fc.Arbitrary<Script> = fc.record({
  steps: fc.array(step, { maxLength: 25 }),
  finish: fc.oneof(
    { weight: 3, arbitrary: fc.record({ how: fc.constant('fin' as const) }) },
    { weight: 2, arbitrary: fc.record({ how: fc.constant('reset' as const), end }) },
    { weight: 1, arbitrary: fc.record({ how: fc.constant('idle' as const) }) },
  ),
});

async function inEveryMode(script: Script, make: Make, onward: Make): Promise<[Result, Result, Result]> {
  for (let attempt = 0; attempt < 10; attempt++) {
    const modes = ['direct', 'pipe', 'native'] as const;
    const all = await Promise.all(modes.map((mode) => perform(mode, script, make, onward)));
    if (all.every((one) => one !== undefined)) return all as [Result, Result, Result];
  }
  throw new Error('idle in the middle, again and again');
}

function parameters(runs: number): { seed: number; numRuns: number } {
  return {
    seed: Number(process.env['ORIGINAL_DST_SEED'] ?? 20261123),
    numRuns: Number(process.env['ORIGINAL_DST_RUNS'] ?? runs),
  };
}

async function compare(t: Test, runs: number, dial?: (port: number) => Socket): Promise<void> {
  const make = await connections(t);
  const onward = dial ? await connections(t, { dial }) : make;
  let conversations = 0;
  await fc.assert(
    fc.asyncProperty(script, async (script) => {
      const [direct, pipe, native] = await inEveryMode(script, make, onward);
      for (const [through, result] of Object.entries({ pipe, native })) {
        if (JSON.stringify(result.saw) !== JSON.stringify(direct.saw))
          throw new Error(`${through}: ${JSON.stringify(result.saw)} direct: ${JSON.stringify(direct.saw)}`);
      }
      if (direct.saw[0]!.hash !== direct.spoken[1] || direct.saw[1]!.hash !== direct.spoken[0])
        throw new Error('what was heard is not what was said');
      // Streams do not look at a socket that has ended, so they miss RST behind FIN.
      const { finish, steps } = script;
      const unseen =
        finish.how === 'reset' && steps.some((one) => one.do === 'fin' && one.end === finish.end);
      if (!unseen && native.reason !== pipe.reason)
        throw new Error(`native ${native.reason}, pipe ${pipe.reason}`);
      conversations++;
    }),
    parameters(runs),
  );
  t.ok(conversations >= 1, `${conversations} conversations`);
}

t.test('a direct connection, streams and the relay: nobody sees a difference', (t) => compare(t, 60));

for (const protocol of ['socks5', 'http'] as const) {
  t.test(`the same, by way of a proxy: connectVia(), ${protocol}`, async (t) => {
    const { asked: _, ...proxy } = await standInProxy(t, protocol, { faithful: true });
    const dial = (port: number): Socket =>
      connectVia(proxy, { address: '127.0.0.1', port }, { allowHalfOpen: true });
    await compare(t, 15, dial);
  });

  t.test(`by way of a proxy, in the relay thread: ${protocol}`, async (t) => {
    const { asked: _, ...via } = await standInProxy(t, protocol, { faithful: true });
    let to = { address: '127.0.0.1', port: 0 };
    const server = createRelayServer({ decide: () => ({ action: 'relay', via, to }) }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => server.destroy());
    const make = await connections(t);
    const through = await connections(t, {
      dial: (port) => {
        to = { ...to, port };
        return connect({ port: server.address()!.port, host: '127.0.0.1', allowHalfOpen: true });
      },
    });
    await fc.assert(
      fc.asyncProperty(script, async (script) => {
        const [direct, relayed] = (await Promise.all([
          perform('direct', script, make, make),
          perform('direct', script, through, through),
        ])) as [Result, Result];
        if (JSON.stringify(relayed.saw) !== JSON.stringify(direct.saw))
          throw new Error(`relayed: ${JSON.stringify(relayed.saw)} direct: ${JSON.stringify(direct.saw)}`);
      }),
      parameters(15),
    );
    t.ok(server.stats.relayed > 0);
  });
}
