// `original-dst proxy`: its limits, with the native relay and without.
import { connect, type AddressInfo } from 'node:net';
import t from 'tap';
import { Forwarder } from '../../lib/cli/forwarder.ts';
import { limitsOf, unfitLimits } from '../../lib/cli/proxy-limits.ts';
import type { RelayServer } from '../../lib/index.ts';
import { backlogOf } from '../fixtures/backlog.ts';
import { cliBatch } from '../fixtures/cli.ts';
import { closed } from '../fixtures/relay-world.ts';

for (const engine of ['any', 'pipe'] as const) {
  t.test(`they come to the server, engine ${engine}`, async (t) => {
    const given = { maxConnections: 9, maxPerClient: 8, maxRatePerClient: 1, backlog: 20 };
    const forwarder = new Forwarder({
      transparent: false,
      dial: {},
      egress: () => ({}),
      limits: limitsOf(engine === 'any' ? { ...given, maxPending: 7, threads: 2 } : given),
      relay: { engine, idleTimeout: 0 },
      onEnd: () => {},
    });
    t.teardown(() => forwarder.close());
    const { port } = (await forwarder.listen({ host: '127.0.0.1', port: 0 })) as AddressInfo;
    t.equal(backlogOf(port), 20);
    const clients = [connect(port, '127.0.0.1'), connect(port, '127.0.0.1')];
    // The first comes back to this very server, and is refused for that.
    await Promise.all(clients.map((client) => closed(client.on('error', () => {}))));
    const { server } = forwarder;
    const stats = 'interceptStats' in server ? server.interceptStats : server.stats;
    t.match(stats.refused, { ERR_MAX_RATE_PER_CLIENT: 1 });
    if (engine === 'any') t.equal((server as RelayServer).stats.acceptedByThread.length, 2);
    else t.equal((server as { maxConnections?: number }).maxConnections, 9);
  });
}

t.test('what does not fit together', (t) => {
  t.equal(unfitLimits({ relay: true, threads: 2, maxPending: 3 }), undefined);
  t.equal(unfitLimits({ relay: false, maxConnections: 2 }), undefined);
  t.match(unfitLimits({ relay: false, maxPending: 3 }), /--max-pending.*--no-relay/);
  const [refused, wrong] = cliBatch(['proxy --no-relay --threads 2', 'proxy --max-per-client many']);
  t.match(refused, { status: 2, stderr: /--threads.*--no-relay/ });
  t.match(wrong, { status: 2, stderr: /--max-per-client.*whole number/ });
  t.same(limitsOf({}), {});
  t.end();
});
