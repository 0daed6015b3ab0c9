// Run by self-test.ts in a network namespace made for it: builds its own little network, intercepts one connection
// in each mode and prints what was recovered as JSON.
import { execFileSync } from 'node:child_process';
import { createSocket as createUdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, connect } from 'node:net';
import { formatEndpoint } from '../address.ts';
import { programPath } from '../programs.ts';
import { createDatagramSocket } from '../udp/datagram-socket.ts';
import { createServer } from '../accept/intercept.ts';
import type { OriginalDst } from '../recover/original-dst.ts';

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
  execFileSync(programPath('ip'), args.map(String), { stdio: 'pipe' });
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

interface Dialled {
  address: string;
  port: number;
}

interface Listener {
  port: number;
  close(): void;
}

/** Both ends of a trial: a listener that answers with what it recovered, and a client that reads the answer. */
interface Protocol {
  listen(transparent: boolean): Promise<Listener>;
  ask(dialled: Dialled, signal: AbortSignal): Promise<string>;
}

const PROTOCOLS: Record<'tcp' | 'udp', Protocol> = {
  tcp: {
    async listen(transparent) {
      const server = createServer({ transparent }, (socket) =>
        socket.end(JSON.stringify(socket.originalDst)),
      );
      server.listen(0, '::');
      await once(server, 'listening');
      return { port: (server.address() as AddressInfo).port, close: () => server.close() };
    },
    async ask({ address, port }, signal) {
      const socket = connect({ host: address, port, signal });
      const [answer] = (await once(socket, 'data')) as [Buffer];
      socket.destroy();
      return answer.toString();
    },
  },
  udp: {
    async listen(transparent) {
      const socket = createDatagramSocket({ transparent });
      // In the form of a connection's. The answer must come from where the client sent to, or is not received.
      socket.on('message', (_, info) => {
        const { destination, ...decided } = info;
        socket.reply(JSON.stringify({ ...decided, ...destination }), info);
      });
      return { port: socket.address().port, close: () => socket.close() };
    },
    async ask({ address, port }, signal) {
      const socket = createUdpSocket({ type: address.includes(':') ? 'udp6' : 'udp4', signal });
      socket.connect(port, address);
      await once(socket, 'connect');
      socket.send('?');
      const [answer] = (await once(socket, 'message', { signal })) as [Buffer];
      socket.close();
      return answer.toString();
    },
  },
};

/** Intercepts one connection, or datagram, and says where it was going, as the listener saw it. */
async function recover(
  protocol: keyof typeof PROTOCOLS,
  mode: Mode,
  family: Family,
  dialled: Dialled,
): Promise<OriginalDst> {
  const { listen, ask } = PROTOCOLS[protocol];
  const listener = await listen(mode === 'tproxy');
  try {
    const match = `${NETWORK[family].protocol} daddr ${dialled.address} ${protocol} dport ${dialled.port}`;
    const rules = RULES[mode](match, listener.port, NETWORK[family].protocol);
    execFileSync(programPath('nft'), ['-f', '-'], {
      input: `flush ruleset\ntable inet trial {${rules}\n}\n`,
      stdio: 'pipe',
    });
    return JSON.parse(await ask(dialled, AbortSignal.timeout(TIMEOUT_MS))) as OriginalDst;
  } finally {
    listener.close();
  }
}

const TRIALS = [
  { protocol: 'tcp', mode: 'redirect' },
  { protocol: 'tcp', mode: 'tproxy' },
  { protocol: 'udp', mode: 'redirect' },
  { protocol: 'udp', mode: 'tproxy' },
] as const;

// Whatever happens, nobody waits for this program for ever.
setTimeout(() => process.exit(1), 2 * TRIALS.length * TIMEOUT_MS + 1000).unref();
ip('link', 'set', 'lo', 'up');
const trials: Trial[] = [];
for (const family of [4, 6] as const) {
  setUp(family);
  const dialled = { address: NETWORK[family].target, port: 80 };
  for (const { protocol, mode } of TRIALS) {
    const trial: Trial = {
      id: `${mode}-${protocol}-ipv${family}`,
      name: `${mode} ${protocol.toUpperCase()} IPv${family}`,
      dialled: formatEndpoint(dialled),
      expected: `${mode} ${formatEndpoint(dialled)}`,
    };
    try {
      trial.recovered = await recover(protocol, mode, family, dialled);
    } catch (error) {
      trial.error = (error as Error).message;
    }
    trials.push(trial);
  }
}
process.stdout.write(JSON.stringify(trials));
