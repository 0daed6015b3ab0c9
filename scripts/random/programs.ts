// The programs of a run: the clients and the far end in C, compiled here; the server, which is this package.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import {
  CHANGING,
  CLIENT_PATIENCE_MS,
  FORBIDDEN,
  interceptedPorts,
  LANES,
  PORTS,
  type Lane,
} from './kinds.ts';
import type { Done, FromServer, ToServer } from './server.ts';
import { sourceOf } from './world.ts';

const SOURCES = ['client', 'datagrams', 'far', 'flush'] as const;

export function compile(directory: string): void {
  for (const name of SOURCES) {
    const source = fileURLToPath(new URL(`../../../scripts/random/${name}.c`, import.meta.url));
    execFileSync('cc', ['-O2', '-Wall', '-Werror', '-o', join(directory, name), source], {
      stdio: 'inherit',
    });
  }
}

/** Datagrams come in bursts of up to so many, and not too fast for rules to change while they come. */
const BURST = 16;
const DATAGRAMS_PER_SECOND = 1000;
const LEAST_SECONDS = 4;

type OnLine = (word: string, rest: string) => void;

/** A program in C that reports in lines: a word, and the rest, which is mostly JSON. */
export class Reporting {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #waiting = new Map<string, ((rest: string) => void)[]>();

  constructor(namespace: string, command: string[], onLine: OnLine = () => {}) {
    const stdio = ['pipe', 'pipe', 'inherit'] as const;
    this.#child = spawn('ip', ['netns', 'exec', namespace, ...command], { stdio: [...stdio] });
    this.#exited = once(this.#child, 'exit');
    this.#child.on('exit', (code, signal) => {
      if (code !== 0) throw new Error(`${command.join(' ')}: ended with ${code ?? signal}`);
    });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      const [word] = line.split(' ', 1) as [string];
      const rest = line.slice(word.length + 1);
      const waiting = this.#waiting.get(word)?.shift();
      if (waiting) waiting(rest);
      else onLine(word, rest);
    });
  }

  /** The rest of the next line that begins with the word. */
  async said(word: string): Promise<string> {
    return new Promise((resolve) => {
      this.#waiting.set(word, [...(this.#waiting.get(word) ?? []), resolve]);
    });
  }

  write(text: string): void {
    this.#child.stdin!.write(text);
  }

  async end(): Promise<void> {
    this.#child.stdin!.end();
    await this.#exited;
  }
}

function namespaceFile(name: string): string {
  return `/run/netns/${name}`;
}

/** How a lane's clients behave. */
export interface Manners {
  seed: number;
  count: number;
  /** Percent of its connections that are reset early; of which the conntrack entry is deleted. */
  early: number;
  loss: number;
  /** Whether everybody's entries are deleted now and then. */
  amidFlush: boolean;
}

export function startClients(directory: string, lane: Lane, manners: Manners, onLine: OnLine): Reporting {
  const number = LANES.indexOf(lane);
  const { v4, v6 } = sourceOf(lane, number);
  const tcp = lane.protocol === 'tcp';
  const bursts = manners.count / (BURST / 2);
  const args = {
    namespace: namespaceFile(lane.from),
    lane: number,
    seed: manners.seed,
    count: manners.count,
    'at-once': tcp ? 20 : BURST,
    pause: Math.ceil((2e6 * Math.max(LEAST_SECONDS, manners.count / DATAGRAMS_PER_SECOND)) / bursts),
    'first-port': 40_000,
    ports: tcp ? 48 : 6,
    patience: CLIENT_PATIENCE_MS,
    early: manners.early,
    loss: manners.loss,
    'amid-flush': Number(manners.amidFlush),
    source4: v4,
    source6: v6,
  };
  const routes = lane.routes.map(
    ({ kind, family, address, count, ports }) =>
      `route=${[kind, family, address, count, ...ports].join(',')}`,
  );
  const program = join(directory, tcp ? 'client' : 'datagrams');
  const named = Object.entries(args).map(([key, value]) => `${key}=${value}`);
  return new Reporting(lane.proxy, [program, ...named, ...routes], onLine);
}

export async function startFar(directory: string, onLine: OnLine): Promise<Reporting> {
  const relayed = [PORTS.relay, PORTS.transparentRelay].flatMap(interceptedPorts);
  const ranges = [FORBIDDEN.from, FORBIDDEN.to, CHANGING.from, CHANGING.to];
  const command = [join(directory, 'far'), namespaceFile('far'), ...ranges, ...relayed].map(String);
  const far = new Reporting('far', command, onLine);
  await far.said('ready');
  return far;
}

/** Where rules come and go entries are to outlive them: they are flushed less often there. */
const FLUSH_PAUSES_MS = { gateway: [20, 200], changing: [500, 5000] } as const;

export function startFlushing(directory: string, gateway: Lane['proxy'], seed: number): Reporting {
  const args = [namespaceFile(gateway), seed, ...FLUSH_PAUSES_MS[gateway]].map(String);
  return new Reporting(gateway, [join(directory, 'flush'), ...args]);
}

/** One gateway's listeners, in a process of their own. */
export class Server {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(
    gateway: Lane['proxy'],
    seed: number,
    onMessage: (message: FromServer) => void,
  ): Promise<Server> {
    const script = fileURLToPath(new URL('server.js', import.meta.url));
    const command = ['netns', 'exec', gateway, process.execPath, script, gateway, String(seed)];
    const child = spawn('ip', command, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    child.on('exit', (code, signal) => {
      if (code !== 0) throw new Error(`the server of ${gateway} ended with ${code ?? signal}`);
    });
    child.on('message', onMessage);
    await once(child, 'message');
    return new Server(child);
  }

  tell(message: ToServer): void {
    this.#child.send(message);
  }

  /** Waits until it has read what was waiting for it. */
  async settle(): Promise<void> {
    this.tell({ settle: true });
    await new Promise<void>((resolve) => {
      const listen = (message: FromServer): void => {
        if (!('settled' in message)) return;
        this.#child.off('message', listen);
        resolve();
      };
      this.#child.on('message', listen);
    });
  }

  /** All of its threads stand still for so long: clients come and go meanwhile. */
  stop(ms: number): void {
    this.#child.kill('SIGSTOP');
    setTimeout(() => this.#child.kill('SIGCONT'), ms);
  }

  /** What it has found, when it has come to its end. */
  async end(): Promise<Done> {
    const exited = once(this.#child, 'exit');
    const done = new Promise<Done>((resolve) => {
      this.#child.on('message', (message: FromServer) => {
        if ('done' in message) resolve(message.done);
      });
    });
    this.tell({ finish: true });
    const found = await done;
    this.#child.disconnect();
    await exited;
    return found;
  }
}
