// Who is measured when. All proxies of a load are there all the time and take turns, a slice each in a round; or one after
// the other, where a load is for a process that has done nothing else.
import type { Sample } from './figures.ts';
import { type LoadOptions, loads } from './loads.ts';
import { pins } from './measure.ts';
import { type Peer, type RunningPeer, start } from './peers.ts';
import { checkProxied } from './server.ts';
import { type Mode, PROXY_PORT, setRules } from './topology.ts';

export interface TurnOptions extends LoadOptions {
  rounds: number;
  modes: readonly Mode[];
  /** For the proxies' configurations. */
  directory: string;
}

/** A proxy, and how connections come to it. */
interface Entrant {
  peer: Peer;
  mode: Mode;
}

/** One that runs. */
interface Contestant extends Entrant {
  port: number;
  running: RunningPeer;
}

let nextPort = PROXY_PORT;

function failed({ name }: Peer, load: string, error: unknown): void {
  // The others' figures are not lost by it; this one's is missing from the table.
  console.error(`${name}, ${load}:`, error);
  process.exitCode = 1;
}

/** Starts a proxy and warms it up; returns undefined if that fails. */
async function enter(
  { peer, mode }: Entrant,
  load: string,
  directory: string,
): Promise<Contestant | undefined> {
  const port = nextPort++;
  setRules(mode, port);
  let running: RunningPeer | undefined;
  try {
    running = await start(peer, { mode, port, directory, pin: pins.proxy });
    // nginx's ssl_preread has nothing to go by in plain HTTP.
    if (peer.name !== 'nginx ssl_preread') checkProxied(mode, peer.viaSocks);
    await loads[load]!.warmUp();
    return { peer, mode, port, running };
  } catch (error) {
    failed(peer, load, error);
    await running?.stop();
    return undefined;
  }
}

async function measure(
  { peer, mode, port, running }: Contestant,
  load: string,
  round: number,
  options: LoadOptions,
): Promise<Sample[]> {
  process.stderr.write(`round ${round}: ${mode}, ${peer.name}, ${load}\n`);
  setRules(mode, port);
  try {
    const result = await loads[load]!.measure(running.pid, options);
    return [{ mode, peer: peer.name, round, ...result }];
  } catch (error) {
    failed(peer, load, error);
    return [];
  }
}

function shuffled<T>(list: readonly T[]): T[] {
  const drawn = list.map((each) => ({ each, lot: Math.random() }));
  return drawn.sort((a, b) => a.lot - b.lot).map(({ each }) => each);
}

async function byTurns(
  load: string,
  entrants: readonly Entrant[],
  rounds: number,
  options: TurnOptions,
): Promise<Sample[]> {
  const samples: Sample[] = [];
  const contestants: Contestant[] = [];
  try {
    for (const entrant of entrants) {
      const contestant = await enter(entrant, load, options.directory);
      if (contestant !== undefined) contestants.push(contestant);
    }
    for (let round = 1; round <= rounds; round++) {
      for (const mode of options.modes) {
        // In another order each time, so that nobody always comes after the same one.
        for (const contestant of shuffled(contestants.filter((each) => each.mode === mode))) {
          samples.push(...(await measure(contestant, load, round, options)));
        }
      }
    }
  } finally {
    for (const { running } of contestants) await running.stop();
  }
  return samples;
}

/** Puts the peers, in the modes that they are able to, under a load. */
export async function takeSamples(
  load: string,
  peers: readonly Peer[],
  options: TurnOptions,
): Promise<Sample[]> {
  const entrants = options.modes.flatMap((mode) =>
    peers.filter(({ modes }) => modes.includes(mode)).map((peer) => ({ peer, mode })),
  );
  if (!loads[load]!.alone) return byTurns(load, entrants, options.rounds, options);
  const samples: Sample[] = [];
  for (const entrant of entrants) samples.push(...(await byTurns(load, [entrant], 1, options)));
  return samples;
}
