// npm run bench:capture: what a capture costs, beside the same relay without a namespace, in the same run; and what
// `original-dst run` adds to the start of a command.
// Rounds are interleaved and medians compared, because a shared machine is slow now and fast then.
import { type ChildProcess, execFileSync, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { createCapture } from '../lib/capture/index.ts';
import { createRelayServer } from '../lib/index.ts';
import { median } from './median.ts';
import { enterNamespace } from './namespace.ts';

const ROUNDS = Number(process.env['ROUNDS'] ?? 7);
const CONNECTIONS = Number(process.env['CONNECTIONS'] ?? 2000);
const MIB = Number(process.env['MIB'] ?? 512);
const AT_ONCE = 16;
const [HOST, SHORT, LONG, MARK] = ['203.0.113.9', 8001, 8002, 7];
const SELF = fileURLToPath(import.meta.url);

/** What is called: says a word and ends, or as many bytes as are asked for. */
function serve(): void {
  process.on('disconnect', () => process.exit());
  const bytes = Buffer.alloc(1 << 20);
  createServer((socket) => socket.end('hello')).listen(SHORT);
  const long = createServer((socket) => {
    let left = MIB;
    const more = (): void => {
      while (left-- > 0) if (!socket.write(bytes)) return void socket.once('drain', more);
      socket.end();
    };
    more();
  });
  long.listen(LONG, () => process.send!('ready'));
}

async function call(port: number): Promise<void> {
  const socket = connect(port, HOST);
  socket.resume();
  await once(socket, 'end');
}

/** The client: prints how many milliseconds it has taken. */
async function client(what: string): Promise<void> {
  const began = performance.now();
  if (what === 'long') {
    await call(LONG);
  } else {
    let left = CONNECTIONS;
    const some = async (): Promise<void> => {
      while (left-- > 0) await call(SHORT);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, some));
  }
  console.log(performance.now() - began);
}

interface Taken {
  /** In milliseconds: by the clock, and of this process's CPU. */
  wall: number;
  cpu: number;
}

async function measure(start: () => ChildProcess): Promise<Taken> {
  const begin = process.cpuUsage();
  const wall = Number(await text(start().stdout!));
  const { user, system } = process.cpuUsage(begin);
  return { wall, cpu: (user + system) / 1000 };
}

function compare(name: string, captured: Taken[], plain: Taken[], show: (taken: number) => string): void {
  const of = (all: Taken[], key: keyof Taken): number => median(all.map((taken) => taken[key]));
  for (const key of ['wall', 'cpu'] as const) {
    const [a, b] = [of(captured, key), of(plain, key)];
    const line = `  ${`${name}, ${key}`.padEnd(28)}${show(a).padStart(18)}${show(b).padStart(18)}`;
    console.log(`${line}${(b / a).toFixed(2).padStart(9)} ×`);
  }
}

/** Milliseconds of a command, by the clock. */
function time(command: string, args: string[]): number {
  const began = performance.now();
  execFileSync(command, args, { stdio: 'ignore' });
  return performance.now() - began;
}

function startUp(): void {
  const cli = fileURLToPath(new URL('../lib/cli.js', import.meta.url));
  const times = { run: [] as number[], node: [] as number[], bare: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    times.run.push(time(process.execPath, [cli, 'run', '-q', '--', 'true']));
    times.node.push(time(process.execPath, ['-e', '0']));
    times.bare.push(time('true', []));
  }
  const [run, node, bare] = [times.run, times.node, times.bare].map(median) as [number, number, number];
  const ms = (value: number): string => `${Math.round(value)} ms`;
  console.log(`\n  original-dst run -- true ${ms(run)}, node -e 0 ${ms(node)}, true ${ms(bare)}`);
  console.log(`  beyond the bare command and Node's own start: ${ms(run - node - bare)} (aim: 150 ms)`);
}

async function main(): Promise<void> {
  execFileSync('sh', ['-ec', `ip link set lo up; ip addr add ${HOST}/32 dev lo`]);
  const server = fork(SELF, ['serve']);
  await once(server, 'message');
  const relay = createRelayServer({ mark: MARK, decide: () => 'relay' }).listen();
  await once(relay, 'listening');
  const rules = `table ip bench {
    chain output {
      type nat hook output priority -100
      meta mark != ${MARK} ip daddr ${HOST} tcp dport { ${SHORT}, ${LONG} } redirect to :${relay.address()!.port}
    }
  }`;
  const capture = await createCapture({ dns: false });
  const stdio: ['ignore', 'pipe', 'inherit'] = ['ignore', 'pipe', 'inherit'];
  const taken = { short: [[], []] as [Taken[], Taken[]], long: [[], []] as [Taken[], Taken[]] };
  for (let round = 0; round <= ROUNDS; round++) {
    for (const what of ['short', 'long'] as const) {
      const args = [SELF, what];
      const captured = await measure(() => capture.spawn(process.execPath, args, { stdio }));
      // Only then: the capture's own dials leave from here.
      execFileSync('nft', ['-f', '-'], { input: rules });
      const plain = await measure(() => spawn(process.execPath, args, { stdio }));
      execFileSync('nft', ['delete', 'table', 'ip', 'bench']);
      if (round === 0) continue; // to warm up
      taken[what][0].push(captured);
      taken[what][1].push(plain);
    }
  }
  console.log(`${''.padEnd(30)}${'captured'.padStart(18)}${'same namespace'.padStart(18)}   (aim: 0.9)`);
  const each = (ms: number): string => `${Math.round((ms / CONNECTIONS) * 1000)} µs each`;
  compare(`${CONNECTIONS} connections`, ...taken.short, each);
  compare(`${MIB} MiB`, ...taken.long, (ms) => `${Math.round((MIB / ms) * 1000)} MiB/s`);
  startUp();
  await capture.close();
  relay.destroy();
  server.kill();
}

const [what] = process.argv.slice(2);
if (what === 'serve') {
  serve();
} else if (what !== undefined) {
  await client(what);
} else {
  enterNamespace({ tools: ['unshare', 'ip', 'nft', 'nsenter'] });
  await main();
}
