// The same pod with TPROXY for what comes in: the program sees the client's own address.
import t from 'tap';
import { inNamespace } from '../fixtures/netns.ts';
import { buildPod } from '../fixtures/pod.ts';
import { sidecarRules } from '../fixtures/sidecar-rules.ts';
import { bypasses, byPackageRules, inbound, outbound, ownAddress } from '../fixtures/sidecar-scenarios.ts';
import { startSidecar } from '../fixtures/sidecar.ts';

t.setTimeout(120_000);

await inNamespace(
  t,
  import.meta.url,
  async () => {
    const pod = await buildPod(t);
    const sidecar = await startSidecar(t, { mode: 'tproxy' });

    await t.test('by the rules of the package', (t) => byPackageRules(t, pod, sidecar, 'tproxy'));

    sidecarRules(t, 'tproxy');

    await t.test('inbound, with the client’s address', (t) => inbound(t, pod, sidecar, 'tproxy'));
    await t.test('outbound: a transparent listener that REDIRECT reaches', (t) => outbound(t, pod, sidecar));
    await t.test('bypasses', (t) => bypasses(t, pod, sidecar));
    await t.test('the proxy dials the pod’s own address', (t) => ownAddress(t, sidecar, 'tproxy'));

    t.same(sidecar.surplus, [], 'nothing closed twice');
  },
  { root: true },
);
