// npm run bench:udp: datagrams a second and CPU for each, against node:dgram and a recvmmsg(2) loop in C; and of a relay,
// one by one and in the bursts that they come in (UDP_GRO).
// All receivers take turns in every round and medians are compared, because a shared machine is slow now and fast
// then. Sender and receiver have a core each.
import { type ChildProcessByStdio, execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { median } from './median.ts';
import { enterNamespace } from './namespace.ts';

const run = promisify(execFile);
const ROUNDS = Number(process.env['ROUNDS'] ?? 7);
const FLOOD_MS = 700;
const PACED_RATE = 20_000;
const PINGS = 2000;
const SIZES = [64, 1200];
const RELAYED = 'relayed, 1200 bytes in bursts: datagrams/s of CPU';

enterNamespace({ tools: ['unshare', 'ip', 'nft', 'conntrack'] });

const C = 'C, recvmmsg';
const DGRAM = 'node:dgram';
const RECEIVERS = [C, DGRAM, 'original-dst', 'original-dst behind TPROXY', 'original-dst behind REDIRECT'];
const RELAYS = ['relay', 'relay, gro'];
const TPROXIED = '198.51.100.7';
const REDIRECTED = '198.51.101.7';

const directory = mkdtempSync(join(tmpdir(), 'original-dst-bench-'));
const peer = join(directory, 'udp');
const onCore = (core: number, command: string[]): [string, string[]] =>
  cpus().length > 1 ? ['taskset', ['-c', String(core), ...command]] : [command[0]!, command.slice(1)];

function script(name: string, ...args: string[]): string[] {
  return [process.execPath, fileURLToPath(new URL(name, import.meta.url)), ...args];
}

function commandOf(kind: string): string[] {
  return kind === C ? [peer, 'receive'] : script('udp-receiver.js', kind);
}

class Receiver {
  readonly target: string[];
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  private constructor(
    child: ChildProcessByStdio<Writable, Readable, null>,
    lines: AsyncIterator<string>,
    target: string[],
  ) {
    this.#child = child;
    this.#lines = lines;
    this.target = target;
  }

  static async start(kind: string, command = commandOf(kind)): Promise<Receiver> {
    const child = spawn(...onCore(1, command), { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const port = (await lines.next()).value as string;
    if (kind.endsWith('TPROXY') || RELAYS.includes(kind)) rules('tproxied', TPROXY.replace('PORT', port));
    else if (kind.endsWith('REDIRECT')) rules('redirected', REDIRECT.replace('PORT', port));
    else return new Receiver(child, lines, ['127.0.0.1', port]);
    return new Receiver(child, lines, [kind.endsWith('REDIRECT') ? REDIRECTED : TPROXIED, '53']);
  }

  /** What has been received since the last call. */
  async count(): Promise<{ received: number; known?: number; cpu: number }> {
    this.#child.stdin.write('\n');
    return JSON.parse((await this.#lines.next()).value as string) as never;
  }

  async close(): Promise<void> {
    this.#child.stdin.end();
    spawnSync('nft', ['flush ruleset']);
    // The kernel lets go of conntrack a moment later, and of its entries only when told to. While it has any, the
    // next receiver would take a direct datagram without an entry for one whose entry was lost.
    await sleep(200);
    spawnSync('conntrack', ['-F']);
  }
}

const TPROXY = `chain output {
    type route hook output priority mangle
    ip daddr ${TPROXIED} udp dport 53 meta mark set 1
  }
  chain prerouting {
    type filter hook prerouting priority mangle
    meta mark 1 udp dport 53 tproxy ip to :PORT accept
  }`;
const REDIRECT = `chain output {
    type nat hook output priority -100
    ip daddr ${REDIRECTED} udp dport 53 redirect to :PORT
  }`;

function rules(table: string, chains: string): void {
  execFileSync('nft', ['-f', '-'], { input: `table inet ${table} {\n${chains}\n}` });
}

const send = (...args: (string | number)[]): Promise<{ stdout: string }> =>
  run(...onCore(0, [peer, ...args.map(String)]));

const samples = new Map<string, number[]>();
const sample = (name: string, kind: string, value: number): void => {
  const key = `${name}|${kind}`;
  samples.set(key, [...(samples.get(key) ?? []), value]);
};
const medianOf = (name: string, kind: string): number => median(samples.get(`${name}|${kind}`) ?? []);

async function measure(kind: string): Promise<void> {
  const receiver = await Receiver.start(kind);
  await send('flood', ...receiver.target, 64, 200); // to warm up
  for (const size of SIZES) {
    await sleep(50);
    await receiver.count();
    const { stdout } = await send('flood', ...receiver.target, size, FLOOD_MS);
    await sleep(50);
    const { received, known, cpu } = await receiver.count();
    if (known !== undefined && kind !== DGRAM && known !== received)
      throw new Error('destinations are missing');
    sample(`flood, ${size} bytes: datagrams/s`, kind, received / (FLOOD_MS / 1000));
    sample(`flood, ${size} bytes: µs of CPU each`, kind, cpu / received);
    sample(`flood, ${size} bytes: % of those sent`, kind, (100 * received) / Number(stdout));
  }
  await send('paced', ...receiver.target, 64, FLOOD_MS, PACED_RATE);
  const { received, cpu } = await receiver.count();
  sample(`${PACED_RATE}/s, 64 bytes: µs of CPU each`, kind, cpu / received);
  sample(
    'one at a time: µs round trip',
    kind,
    Number((await send('ping', ...receiver.target, PINGS)).stdout),
  );
  await receiver.close();
}

/** As QUIC stacks send: bursts, of datagrams of full size. */
async function measureRelay(kind: string): Promise<void> {
  const server = await Receiver.start(C);
  const port = server.target[1]!;
  const relay = await Receiver.start(kind, script('udp-relay.js', port, kind.endsWith('gro') ? 'gro' : ''));
  await send('flood', ...relay.target, 1200, 200); // to warm up
  await sleep(50);
  await server.count();
  await relay.count();
  await send('flood', ...relay.target, 1200, FLOOD_MS);
  await sleep(50);
  const { received, cpu } = await relay.count();
  // It shares the sender's core, and is not quick enough for all of them.
  if ((await server.count()).received === 0) throw new Error('nothing has arrived');
  sample(RELAYED, kind, received / (cpu / 1e6));
  await relay.close();
  await server.close();
}

execFileSync('sh', [
  '-ec',
  `ip link set lo up
   ip addr add 192.0.2.1/32 dev lo
   ip route add default dev lo src 192.0.2.1
   ip rule add fwmark 1 lookup 100
   ip route add local default dev lo table 100`,
]);
try {
  const source = fileURLToPath(new URL('../../bench/udp.c', import.meta.url));
  execFileSync('cc', ['-O2', '-Wall', '-o', peer, source], { stdio: 'inherit' });
  for (let round = 0; round < ROUNDS; round++) {
    for (const kind of RECEIVERS) await measure(kind);
    for (const kind of RELAYS) await measureRelay(kind);
  }
  const names = new Set([...samples.keys()].map((key) => key.split('|')[0]!));
  console.log(`medians of ${ROUNDS} rounds; × is against ${DGRAM}, of relays against the first\n`);
  for (const name of names) {
    console.log(name);
    const [kinds, first] = name === RELAYED ? [RELAYS, RELAYS[0]!] : [RECEIVERS, DGRAM];
    for (const kind of kinds) {
      const value = medianOf(name, kind);
      const ratio = value / medianOf(name, first);
      console.log(
        `  ${kind.padEnd(30)}${value.toFixed(value < 100 ? 2 : 0).padStart(10)}${ratio.toFixed(2).padStart(8)} ×`,
      );
    }
  }
} finally {
  rmSync(directory, { recursive: true });
}
