// npm run bench:scale [-- --connections N --idle N --seconds N]
// What one more costs when there are many already: distinct destinations with lasting verdicts, open connections, rules
// of a policy. The cost of each is to stay what it is with one. Prints Markdown tables.
import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { NamePolicy, type RelayServerStats } from 'original-dst';
import { enterNamespace } from './namespace.ts';
import { loads } from './proxy/loads.ts';
import { cpuNanoseconds, maxConnections } from './proxy/measure.ts';
import { markdown } from './proxy/report.ts';
import { startServer } from './proxy/server.ts';
import { buildHosts, on, PROXY_PORT, SERVER, setRules, sh } from './proxy/topology.ts';

const DESTINATIONS = [1, 100, 1000, 4000, 10_000];
const RULES = [1, 10, 100, 1000, 10_000];
const QUESTIONS = 20_000;

const { values } = parseArgs({
  options: {
    connections: { type: 'string', default: '20000' },
    idle: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '2' },
  },
});
enterNamespace({ tools: ['unshare', 'ip', 'nft', 'curl', 'nginx', 'wrk'], descriptors: 100_000 });

const local = (file: string): string => fileURLToPath(new URL(`./proxy/${file}`, import.meta.url));

async function withProxy<T>(
  run: (pid: number, stats: () => Promise<RelayServerStats>) => Promise<T>,
): Promise<T> {
  const child = fork(local('node-counted.js'), [String(PROXY_PORT)]);
  const exited = once(child, 'exit');
  await once(child, 'message');
  try {
    return await run(child.pid!, async () => {
      child.send('stats');
      const [stats] = (await once(child, 'message')) as [RelayServerStats];
      return stats;
    });
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}

/** Each destination is visited before it is measured, so that there is a verdict about it, if it was kept. */
async function visitMany(destinations: number): Promise<string[]> {
  const visit = (count: number): void => {
    const [command, ...args] = on('client', [
      process.execPath,
      local('destinations-client.js'),
      String(destinations),
      String(count),
    ]);
    execFileSync(command!, args, { stdio: 'inherit' });
  };
  const count = Math.max(Number(values.connections), destinations);
  return withProxy(async (pid, stats) => {
    // Compilers are warm after as many again.
    visit(Math.max(2000, destinations));
    const before = await stats();
    const cpu = cpuNanoseconds(pid);
    visit(count);
    const spent = (cpuNanoseconds(pid) - cpu) / count / 1000;
    const asked = (await stats()).undecided - before.undecided;
    return [String(destinations), `${spent.toFixed(1)} µs`, `${((100 * asked) / count).toFixed(1)} %`];
  });
}

async function openMany(): Promise<string[][]> {
  const idle = Math.min(Number(values.idle), maxConnections() - 500);
  const { values: measured } = await withProxy((pid) =>
    loads['scale']!(pid, { seconds: Number(values.seconds), idle }),
  );
  const rows = {
    1: measured.cpuBeside1,
    100: measured.cpuBeside100,
    1000: measured.cpuBeside1000,
    [idle]: measured.cpuBesideMost,
  };
  return Object.entries(rows).map(([open, cpu]) => [open, `${(cpu! * 1e6).toFixed(1)} µs`]);
}

/** Names and prefixes in equal parts; half of the questions are about what there is a rule for. */
function askMany(rules: number): string[] {
  const allow = Array.from({ length: rules }, (_, at) =>
    at % 2 === 0 ? `n${at}.example.com` : `10.${at >> 8}.${at & 0xff}.0/24`,
  );
  const policy = new NamePolicy({ allow, deny: [] });
  const ask = (): void => {
    for (let i = 0; i < QUESTIONS; i++) {
      const at = i % (2 * rules);
      policy.test({
        name: `n${at}.example.com`,
        address: `10.${(at >> 8) & 0xff}.${at & 0xff}.7`,
        port: 443,
      });
    }
  };
  ask();
  const before = process.cpuUsage();
  ask();
  const { user, system } = process.cpuUsage(before);
  return [String(rules), `${((user + system) / QUESTIONS).toFixed(2)} µs`];
}

const directory = mkdtempSync(join(tmpdir(), 'bench-scale-'));
buildHosts();
setRules('redirect');
// AnyIP: the server has all of these addresses.
sh(`ip -n server route add local 198.18.0.0/16 dev lo; ip route add 198.18.0.0/16 via ${SERVER}`);
const stopServer = await startServer(directory, []);
try {
  const visited: string[][] = [];
  for (const destinations of DESTINATIONS) visited.push(await visitMany(destinations));
  const asked = ['asked again'];
  console.log(
    `Lasting verdicts:\n\n${markdown([['destinations', 'CPU / connection', ...asked], ...visited])}`,
  );
  console.log(
    `\nOpen connections:\n\n${markdown([['idle', 'CPU / keep-alive request'], ...(await openMany())])}`,
  );
  console.log(`\nNamePolicy:\n\n${markdown([['rules', 'CPU / decision'], ...RULES.map(askMany)])}`);
} finally {
  stopServer();
  rmSync(directory, { recursive: true });
}
