// A service that was started again has a new cgroup under the old path, which the rules do not know: verify says so, and
// apply makes it good.
import { mkdirSync, rmdirSync } from 'node:fs';
import t from 'tap';
import { apply, planRules, remove, verify } from '../../lib/rules/index.ts';
import { inNamespace, sh } from '../fixtures/netns.ts';

const PARENT = `original-dst-cgroup-${process.pid}`;
const DIRECTORY = `/sys/fs/cgroup/${PARENT}/proxy.service`;

await inNamespace(
  t,
  import.meta.url,
  async () => {
    sh('umount -l /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup');
    mkdirSync(DIRECTORY, { recursive: true });
    t.teardown(() => {
      rmdirSync(DIRECTORY);
      rmdirSync(`/sys/fs/cgroup/${PARENT}`);
    });
    const plan = planRules({
      outbound: { mode: 'redirect', port: 15001 },
      exempt: { uids: [1337], cgroups: [`${PARENT}/proxy.service`] },
    });
    for (const [backend, listed] of [
      ['nftables', /socket cgroupv2 level 2 \d+ return/],
      ['iptables', /--path \S+proxy.service .*"sent by the proxy, cgroup \d+"/],
    ] as const) {
      t.test(backend, async (t) => {
        t.teardown(() => remove(plan.name));
        await apply(plan, { backend });
        t.equal(await verify(plan, { backend }), undefined, 'as it was loaded');
        rmdirSync(DIRECTORY);
        t.match(await verify(plan, { backend }), { found: listed }, 'the service has ended');
        mkdirSync(DIRECTORY);
        t.match(
          await verify(plan, { backend }),
          { expected: /proxy\.service/, found: listed },
          'the service runs again',
        );
        await apply(plan, { backend });
        t.equal(await verify(plan, { backend }), undefined, 'loaded anew');
      });
    }
  },
  { root: true },
);
