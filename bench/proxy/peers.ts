// The proxies that are compared. Each does the same job: pass TCP to where the client was going.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { maxConnections } from './measure.ts';
import { type Mode, PROXY_PORT } from './topology.ts';

export interface Peer {
  name: string;
  modes: Mode[];
  /** What has to be installed, as scripts/ensure-tools.sh takes it. */
  tools?: string[];
  command(mode: Mode, directory: string): string[];
}

function haproxy(splice: boolean): Peer['command'] {
  return (mode, directory) => {
    const file = `${directory}/haproxy-${mode}-${splice}.cfg`;
    writeFileSync(
      file,
      `global
  nbthread 1
  maxconn ${maxConnections() - 400}
  maxpipes 200
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen proxy
  bind 0.0.0.0:${PROXY_PORT}${mode === 'tproxy' ? ' transparent' : ''}
  option transparent
${splice ? '  option splice-auto\n' : ''}`,
    );
    return ['haproxy', '-db', '-q', '-f', file];
  };
}

function ownProxy(file: string): Peer['command'] {
  const path = fileURLToPath(new URL(`./${file}`, import.meta.url));
  return (mode) => [process.execPath, path, mode, String(PROXY_PORT)];
}

export const peers: Peer[] = [
  { name: 'HAProxy', modes: ['redirect', 'tproxy'], tools: ['haproxy'], command: haproxy(false) },
  { name: 'HAProxy, splice-auto', modes: ['redirect', 'tproxy'], tools: ['haproxy'], command: haproxy(true) },
  {
    name: 'mitmproxy',
    modes: ['redirect'],
    tools: ['mitmproxy'], // the package that mitmdump is in
    command: () =>
      `mitmdump -q --mode transparent --tcp-hosts .* --ignore-hosts .* -p ${PROXY_PORT} --set block_global=false`.split(
        ' ',
      ),
  },
  { name: 'Node, pipe', modes: ['redirect', 'tproxy'], command: ownProxy('node-pipe.js') },
  { name: 'original-dst, relay', modes: ['redirect', 'tproxy'], command: ownProxy('node-relay.js') },
  {
    name: 'original-dst, cached verdict',
    modes: ['redirect', 'tproxy'],
    command: ownProxy('node-cached.js'),
  },
];

/** Does something listen on the port? Asked of /proc: connecting would be a connection to be proxied. */
function listening(port: number): boolean {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')} `;
  return ['/proc/self/net/tcp', '/proc/self/net/tcp6'].some((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .some((line) => line.includes(wanted) && line.includes(' 0A ')),
  );
}

export interface RunningPeer {
  pid: number;
  stop(): Promise<void>;
}

/** Starts a peer and waits until it listens. */
export async function start(peer: Peer, mode: Mode, directory: string, pin: string[]): Promise<RunningPeer> {
  const [command, ...args] = [...pin, ...peer.command(mode, directory)];
  const child: ChildProcess = spawn(command!, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const exited = once(child, 'exit');
  for (let tries = 0; !listening(PROXY_PORT); tries++) {
    if (tries > 200 || child.exitCode !== null) throw new Error(`${peer.name} does not listen`);
    await delay(50);
  }
  return {
    pid: child.pid!,
    async stop() {
      child.kill('SIGKILL');
      await exited;
      while (listening(PROXY_PORT)) await delay(20);
    },
  };
}
