// What befalls all clients of the soak at once.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { ChildProcess } from 'node:child_process';
import type { ProxyProcess } from './proxy-process.ts';

/** Not execFileSync(): the clients live in this process, and must not stand still for a shell that comes up slowly. */
async function run(command: string, ...args: string[]): Promise<void> {
  const [code] = (await once(spawn(command, args, { stdio: 'ignore' }), 'close')) as [number | null];
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${code}`);
}

export function disastersOf(proxy: ProxyProcess, far: ChildProcess): Record<string, () => Promise<void>> {
  const descriptors = (limit: number): Promise<void> =>
    run('prlimit', '--pid', String(proxy.child.pid), `--nofile=${limit}:`);
  return {
    'no descriptor left': async () => {
      const held = await proxy.held();
      await descriptors(held.descriptors + held.pipes);
      await delay(300);
      await descriptors(65536).catch(() => descriptors(1024));
    },
    'the upstream stands still': async () => {
      far.kill('SIGSTOP');
      await delay(500);
      far.kill('SIGCONT');
    },
    'conntrack forgets': async () => {
      await run('conntrack', '-F');
      await delay(100);
    },
  };
}
