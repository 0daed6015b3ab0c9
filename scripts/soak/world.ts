// The network of the soak: clients and the proxy here, whom they dial in a namespace of its own.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { ensureTools } from '../native.ts';
import { addressOf, NOBODYS_CLIENT } from './client.ts';

const INSIDE = 'ORIGINAL_DST_SOAK_INSIDE';

export function sh(script: string): string {
  return execFileSync('sh', ['-ec', script], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Starts this program again in namespaces that end with it, unless that has been done. */
export function inWorld(): void {
  if (process.env[INSIDE] === '1') return;
  ensureTools('nft', 'ip', 'unshare', 'setpriv', 'conntrack', 'prlimit');
  const unshare = ['KILL', 'unshare', '-Urnmpf', '--kill-child', '--mount-proc', '--propagation', 'private'];
  const { status } = spawnSync('setpriv', ['--pdeathsig', ...unshare, ...process.argv], {
    stdio: 'inherit',
    env: { ...process.env, [INSIDE]: '1' },
  });
  process.exit(status ?? 1);
}

/** Connections to 198.51.100.7:7000 come to port 15001, but those with the mark 7. Returns the process that answers them. */
export async function startWorld(clients: number): Promise<ChildProcess> {
  const addresses = [...Array.from({ length: clients }, (_, number) => addressOf(number)), NOBODYS_CLIENT];
  sh(`
    mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip link set lo up
    ip netns add far
    ip link add near type veth peer name far netns far
    ip addr add 192.0.2.1/24 dev near
    for address in ${addresses.join(' ')}; do ip addr add $address/24 dev near; done
    ip link set near up
    ip -n far addr add 192.0.2.2/24 dev far && ip -n far addr add 198.51.100.7/32 dev far
    ip -n far link set far up && ip -n far link set lo up
    ip route add default via 192.0.2.2
    ip netns exec far nft 'add table ip f; add chain ip f i { type filter hook prerouting priority 0; };
      add rule ip f i ip daddr 203.0.113.0/24 drop'
    nft 'add table ip t; add chain ip t o { type nat hook output priority -100; };
      add rule ip t o meta mark != 7 tcp dport 7000 redirect to :15001'
  `);
  const program = fileURLToPath(new URL('./far.js', import.meta.url));
  const far = spawn('ip', ['netns', 'exec', 'far', process.execPath, program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(far.stdout, 'data');
  return far;
}
