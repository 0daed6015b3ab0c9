// `original-dst run --capture ebpf`: a command in a cgroup of its own, and not in a namespace.
import { type ChildProcess, spawn, type SpawnOptions } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Endpoint } from '../address.ts';
import type { CaptureEvents } from '../capture/index.ts';
import type { ProxyServer } from '../dial/proxy-server.ts';
import { attachCapture, type Capture } from '../ebpf/index.ts';
import { cgroupMount } from '../ebpf/cgroup.ts';
import { codedError } from '../errors.ts';
import type { FirstBytes } from '../names/first-bytes.ts';
import type { NamePolicy } from '../policy/name-policy.ts';
import type { OriginalDst } from '../recover/original-dst.ts';
import type { RelayDecision } from '../relay/decision.ts';
import { createRelayServer } from '../relay/relay-server.ts';
import type { RunOptions } from './run-captured.ts';

const DNS_PORT = 53;
/** How long the kernel may take to end what the command has left behind. */
const LAST_MS = 2000;

/** Why these options do not go together, if they do not. */
export function unfitForCgroup({ udp, hostPort, publish }: RunOptions): string | undefined {
  if (udp === 'relay') return '--capture ebpf refuses datagrams: leave --udp out';
  if (hostPort ?? publish)
    return '--capture ebpf makes no namespace, the command has this host’s localhost: leave --host-port and --publish out';
  return undefined;
}

function makeCgroup(): string {
  // Below this process' own, so that what limits this process limits the command too.
  const mount = cgroupMount();
  const [, own] = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))!;
  const directory = join(mount, own!, `original-dst-run-${process.pid}`);
  try {
    mkdirSync(directory);
    /* c8 ignore next 5 -- a test meets it as another user, who can write no coverage */
  } catch (error) {
    throw codedError('ERR_CAPTURE_CGROUP', `${directory} cannot be made: ${(error as Error).message}`, {
      hint: 'run as root, or without --capture ebpf, which needs no rights',
    });
  }
  return directory;
}

/** A command's connections, captured by BPF programs at its cgroup. Datagrams but DNS are refused, DNS goes by itself. */
export class CgroupCapture extends EventEmitter<CaptureEvents> {
  readonly #cgroup = makeCgroup();
  readonly #policy: NamePolicy | undefined;
  readonly #via: ProxyServer | undefined;
  readonly #server = createRelayServer({
    inspect: {},
    decide: (destination, _client, first) => this.#decide(destination, first),
  });
  #capture: Capture | undefined;

  /** @throws as attachCapture() */
  static async start(policy: NamePolicy | undefined, via: ProxyServer | undefined): Promise<CgroupCapture> {
    const self = new CgroupCapture(policy, via);
    try {
      await self.#start();
      return self;
    } catch (error) {
      await self.close();
      throw error;
    }
  }

  private constructor(policy: NamePolicy | undefined, via: ProxyServer | undefined) {
    super();
    this.#policy = policy;
    this.#via = via;
  }

  async #start(): Promise<void> {
    this.#server.on('relay', (relay, destination, client, first) =>
      this.emit('relay', relay, destination, client, first?.name, undefined),
    );
    this.#server.listen({ port: 0 });
    await once(this.#server, 'listening');
    this.#server.on('error', (error) => this.emit('error', error));
    this.#capture = attachCapture({
      cgroup: this.#cgroup,
      port: this.#server.address()!.port,
      // Nobody listens there for UDP: the sender is told so at once.
      protocols: ['tcp', 'udp'],
      exclude: { ports: [DNS_PORT] },
    });
  }

  /** A shell enters the cgroup before the program can open a socket; it then is the program. */
  spawn(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
    const enter = 'echo $$ >"$0" && exec "$@"';
    return spawn('/bin/sh', ['-c', enter, join(this.#cgroup, 'cgroup.procs'), command, ...args], options);
  }

  /** What still runs there is killed: it would dial by itself from here on. */
  async close(): Promise<void> {
    writeFileSync(join(this.#cgroup, 'cgroup.kill'), '1');
    this.#capture?.close();
    const closed = this.#server[Symbol.asyncDispose]();
    this.#server.destroy();
    await closed;
    /* c8 ignore next 4 -- not every time: what is killed may be there for a moment */
    for (let waited = 0; !this.#removed(); waited += 10) {
      if (waited > LAST_MS) return;
      await delay(10);
    }
  }

  #removed(): boolean {
    try {
      rmdirSync(this.#cgroup);
      return true;
      /* c8 ignore next 3 -- see there */
    } catch {
      return false;
    }
  }

  #decide(destination: OriginalDst, first: FirstBytes | undefined): RelayDecision {
    // Whoever finds the port from elsewhere.
    if (destination.kind !== 'ebpf') return 'reset';
    const { address, port }: Endpoint = destination;
    // Looked at in every connection, whatever its port.
    const { name, ech, protocol } = first!;
    const found = this.#policy?.explain({ name, address, port, protocol, ech });
    if (found?.allowed === false) {
      const { because } = found;
      this.emit('denied', {
        protocol: 'tcp',
        name,
        destination: { address, port },
        because,
        process: undefined,
      });
      return 'reset';
    }
    return this.#via === undefined ? 'relay' : { action: 'relay', via: this.#via };
  }
}
