// A relay server that is restarted under load. `restarted.js reuse-port` listens beside its predecessor; `restarted.js inherit`
// starts its successor itself, which gets the listening socket as descriptor 3. SIGTERM: drain, and end.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { createRelayServer } from '../../lib/index.ts';

const [way, inherited] = process.argv.slice(2);

const to = { address: '198.51.100.7', port: 7000 };
const server = createRelayServer({
  mark: 7,
  threads: 2,
  // Named, because conntrack's answer is not taken for certain where a socket has had segments that it could not use, as
  // happens under load: such a client would be refused, restart or not.
  decide: () => ({ action: 'relay', to, ttl: Math.random() < 0.5 ? 0 : 1000 }),
});
if (inherited === 'inherited') server.listen({ fd: 3 });
else server.listen({ port: 15001, reusePort: way === 'reuse-port' });
await once(server, 'listening');
process.stdout.write(`${process.pid}\n`);

const [signal] = await Promise.race([
  once(process, 'SIGTERM').then(() => ['SIGTERM']),
  once(process, 'SIGUSR2').then(() => ['SIGUSR2']),
]);
if (signal === 'SIGUSR2') {
  const stdio = ['ignore', 'inherit', 'inherit', server.fd!] as const;
  const self = fileURLToPath(import.meta.url);
  const successor = spawn(process.execPath, [self, way!, 'inherited'], { stdio: [...stdio], detached: true });
  successor.unref();
  // It takes the place of this one when it says so to whoever has started this one.
  await once(process, 'SIGTERM');
}
await server.drain();
process.exit(server.stats.accepted > 0 ? 0 : 1);
