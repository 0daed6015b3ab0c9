// Run by self-test.ts in a network namespace made for it: builds its own little network, intercepts one connection
// in each mode and prints what was recovered as JSON.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { formatEndpoint } from '../address.ts';
import { createServer } from '../intercept.ts';
import type { OriginalDst } from '../original-dst.ts';

/** One mode tried. */
export interface Trial {
  id: string;
  name: string;
  dialled: string;
  /** `redirect 198.51.100.7:80` */
  expected: string;
  recovered?: OriginalDst;
  error?: string;
}

const TIMEOUT_MS = 3000;
const MARK = 1;
const TABLE = 100;

/** Addresses for documentation: RFC 5737, RFC 3849. */
const NETWORK = {
  4: { own: '192.0.2.1/32', route: '198.51.100.0/24', target: '198.51.100.7', protocol: 'ip' },
  6: { own: '2001:db8:1::1/128', route: '2001:db8:2::/64', target: '2001:db8:2::7', protocol: 'ip6' },
} as const;
type Family = keyof typeof NETWORK;

function ip(...args: (string | number)[]): void {
  execFileSync('ip', args.map(String), { stdio: 'pipe' });
}

/** Every address of the route is reached by way of loopback, which is all that it takes to pass the rules. */
function setUp(family: Family): void {
  const { own, route } = NETWORK[family];
  const flag = `-${family}`;
  ip(flag, 'addr', 'add', own, 'dev', 'lo', ...(family === 6 ? ['nodad'] : []));
  ip(flag, 'route', 'add', route, 'dev', 'lo', 'src', own.split('/')[0]!);
  ip(flag, 'rule', 'add', 'fwmark', MARK, 'lookup', TABLE);
  ip(flag, 'route', 'add', 'local', 'default', 'dev', 'lo', 'table', TABLE);
}

const RULES = {
  redirect: (match: string, port: number) => `
    chain output {
      type nat hook output priority -100
      ${match} redirect to :${port}
    }`,
  tproxy: (match: string, port: number, protocol: string) => `
    chain output {
      type route hook output priority -150
      ${match} meta mark set ${MARK}
    }
    chain prerouting {
      type filter hook prerouting priority -150
      ${match} tproxy ${protocol} to :${port} meta mark set ${MARK} accept
    }`,
};
type Mode = keyof typeof RULES;

/** Intercepts one connection and says where it was going, as the server saw it. */
async function recover(
  mode: Mode,
  family: Family,
  dialled: { address: string; port: number },
): Promise<OriginalDst> {
  const server = createServer({ transparent: mode === 'tproxy' }, (socket) => {
    socket.end(JSON.stringify(socket.originalDst));
  });
  let socket: Socket | undefined;
  try {
    server.listen(0, '::');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const match = `${NETWORK[family].protocol} daddr ${dialled.address} tcp dport ${dialled.port}`;
    const rules = RULES[mode](match, port, NETWORK[family].protocol);
    execFileSync('nft', ['-f', '-'], {
      input: `flush ruleset\ntable inet trial {${rules}\n}\n`,
      stdio: 'pipe',
    });
    socket = connect({ host: dialled.address, port: dialled.port, signal: AbortSignal.timeout(TIMEOUT_MS) });
    const [answer] = (await once(socket, 'data')) as [Buffer];
    return JSON.parse(answer.toString()) as OriginalDst;
  } finally {
    socket?.destroy();
    server.close();
  }
}

// Whatever happens, nobody waits for this program for ever.
setTimeout(() => process.exit(1), 4 * TIMEOUT_MS + 1000).unref();
ip('link', 'set', 'lo', 'up');
const trials: Trial[] = [];
for (const family of [4, 6] as const) {
  const dialled = { address: NETWORK[family].target, port: 80 };
  for (const mode of ['redirect', 'tproxy'] as const) {
    const trial: Trial = {
      id: `${mode}-ipv${family}`,
      name: `${mode} IPv${family}`,
      dialled: formatEndpoint(dialled),
      expected: `${mode} ${formatEndpoint(dialled)}`,
    };
    try {
      if (mode === 'redirect') setUp(family);
      trial.recovered = await recover(mode, family, dialled);
    } catch (error) {
      trial.error = (error as Error).message;
    }
    trials.push(trial);
  }
}
process.stdout.write(JSON.stringify(trials));
