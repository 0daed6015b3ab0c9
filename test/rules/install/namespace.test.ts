// Rules in another network namespace: applied, seen to capture, verified and removed from outside, whose own stay as they are.
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { createServer, Namespace, type OriginalDst } from '../../../lib/index.ts';
import { apply, applyCommands, planRules, remove, removeCommands, verify } from '../../../lib/rules/index.ts';
import { locked } from '../../../lib/rules/install/lock.ts';
import { inNamespace, sh } from '../../fixtures/netns.ts';
import { BACKENDS, failure } from '../../fixtures/rule-foreign.ts';
import { changes, snapshot } from '../../fixtures/rule-snapshot.ts';

const PORT = 15001;
const LOCKED = '/proc/sys/net/ipv4/tcp_fastopen_key';
const DESTINATION = '192.0.2.80';

const plans = {
  redirect: planRules({
    outbound: { mode: 'redirect', port: PORT, loopback: 'capture' },
    exempt: { marks: [7] },
  }),
  tproxy: planRules({
    outbound: { mode: 'tproxy', port: PORT, loopback: 'capture' },
    gateway: { mode: 'redirect', port: 15002, forwarding: true },
    exempt: { marks: [7] },
  }),
};

/** Where a connection of that namespace to a far address was going, as a proxy in there sees it. */
async function captured(t: Test, namespace: Namespace, transparent: boolean): Promise<OriginalDst> {
  const server = createServer({ transparent }, (socket) => socket.end()).listen({ port: PORT, namespace });
  await once(server, 'listening');
  t.teardown(() => server.close());
  // Another process: what this one dials it must not get itself.
  const dialled = namespace.run(['curl', '-s', '-m', '20', `http://${DESTINATION}/`]);
  const [socket] = (await once(server, 'connection')) as [{ originalDst: OriginalDst }];
  await dialled;
  return socket.originalDst;
}

await inNamespace(t, import.meta.url, async () => {
  const made = await Namespace.create();
  t.teardown(() => made.close());
  sh('ip netns add other');
  const named = Namespace.of('/run/netns/other');
  t.teardown(() => named.close());
  for (const space of [made, named]) {
    const input = 'link set lo up\naddr add 192.0.2.1/32 dev lo\nroute add default dev lo src 192.0.2.1\n';
    if ((await space.run(['ip', '-batch', '-'], { input })).status !== 0) throw new Error('no address');
  }
  const before = snapshot();

  for (const [what, namespace] of Object.entries({ made, named })) {
    for (const backend of BACKENDS) {
      for (const [mode, plan] of Object.entries(plans)) {
        // Where it comes from has nothing to do with what is done in there: for the second, one of each.
        if (what === 'named' && (backend === 'nftables') !== (mode === 'redirect')) continue;
        t.test(`${what}, ${backend}, ${mode}`, async (t) => {
          const inside = async (): Promise<string> =>
            (
              await namespace.run([
                'sh',
                '-c',
                'nft list ruleset; ip rule; cat /proc/sys/net/ipv4/ip_forward',
              ])
            ).stdout;
          t.ok((await applyCommands(plan, { namespace, backend })).length > 0);
          const empty = await inside();
          await apply(plan, { namespace, backend, hold: true });
          t.equal(changes(before), '', 'outside all is as it was');
          t.equal(await verify(plan, { namespace, backend }), undefined);
          t.ok(await verify(plan, { backend }), 'they are not out here');
          const destination = await captured(t, namespace, mode === 'tproxy');
          t.match(destination, { kind: mode, address: DESTINATION, port: 80 });
          t.ok((await removeCommands(plan.name, { namespace })).length > 0);
          t.equal(await remove(plan.name, { namespace }), true);
          t.equal(await remove(plan.name, { namespace }), false);
          t.match((await inside()).match(/odst|original-dst|13370/), null);
          t.equal((await inside()).at(-2), empty.at(-2), 'forwarding is as it was');
          t.equal(changes(before), '');
        });
      }
    }
  }

  t.test('the lock is the other namespace’s', async (t) => {
    const probe = ['flock', '-n', '-x', LOCKED, 'echo', 'free'] as const;
    const free = async (): Promise<string> => (await made.run(probe)).stdout;
    await locked(
      async () => {
        t.equal(await free(), '');
        t.equal(sh(probe.join(' ')), 'free\n', 'out here nobody has it');
        const busy = await failure(locked(async () => {}, { namespace: made, patience: 50 }));
        t.match(busy, { code: 'ERR_RULES_BUSY', message: /for 0\.05 s/ });
      },
      { namespace: made },
    );
    t.equal(await free(), 'free\n');
    t.equal(await locked(async () => 2, { namespace: made, path: '/nonexistent/lock' }), 2);
    const path = process.env['PATH'];
    const failed = locked(() => Promise.reject(new Error('of the body')), { namespace: made });
    t.match(await failure(failed), { message: 'of the body' });
    t.equal(await free(), 'free\n', 'given back all the same');
    t.equal(process.env['PATH'], path);
  });

  t.test('what cannot be', async (t) => {
    const run = () => Promise.resolve({ status: 0, stdout: '', stderr: '' });
    t.match(await failure(apply(plans.redirect, { namespace: made, run })), { code: 'ERR_RULES_OPTION' });
    const wrong = { namespace: fileURLToPath(import.meta.url) as unknown as Namespace };
    t.match(await failure(verify(plans.redirect, wrong)), { code: 'ERR_INVALID_ARG_TYPE' });
    const closed = await Namespace.create();
    closed.close();
    t.match(await failure(remove('default', { namespace: closed })), { code: 'ERR_NAMESPACE_CLOSED' });
  });
});
