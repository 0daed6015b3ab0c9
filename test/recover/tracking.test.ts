import t from 'tap';
import { conntrackActive, conntrackPresent } from '../../lib/recover/tracking.ts';
import { beliefsExpired, rules, TRACKING, ZONED } from '../fixtures/connections.ts';
import { defaultRoutes, inNamespace, sh } from '../fixtures/netns.ts';

await inNamespace(t, import.meta.url, async () => {
  defaultRoutes();

  await t.test('active with the first rule that needs it', async (t) => {
    t.equal(conntrackActive(4), false);
    t.equal(conntrackActive(6), false);
    rules(t, 'inet', TRACKING);
    t.equal(conntrackActive(4), false, 'believed for a second');
    await beliefsExpired();
    t.equal(conntrackActive(4), true);
    t.equal(conntrackActive(6), true);
    t.equal(conntrackActive(6), true);
  });

  await t.test('active for one family', async (t) => {
    await beliefsExpired();
    rules(t, 'ip6', TRACKING);
    sh('conntrack -F 2>/dev/null');
    t.equal(conntrackActive(4), false);
    t.equal(conntrackActive(6), true);
  });

  await t.test('active in a zone that SO_ORIGINAL_DST does not look into', async (t) => {
    await beliefsExpired();
    rules(t, 'inet', TRACKING + ZONED);
    sh('conntrack -F 2>/dev/null');
    t.equal(conntrackActive(4), true);
  });

  await t.test('a probe that loopback does not let through tells nothing', async (t) => {
    await beliefsExpired();
    rules(
      t,
      'inet',
      `chain input {
        type filter hook input priority 0
        tcp flags syn drop
      }`,
    );
    t.equal(conntrackActive(4), undefined, 'no answer');
    await beliefsExpired();
    sh('ip link set lo down');
    t.equal(conntrackActive(4), undefined, 'unreachable');
    t.equal(conntrackActive(6), undefined);
    sh('ip link set lo up');
  });

  await t.test('present', async (t) => {
    sh('cat /proc/sys/net/netfilter/nf_conntrack_max');
    t.equal(conntrackPresent(), true);
    sh('mount -t tmpfs tmpfs /proc/sys/net');
    t.equal(conntrackPresent(), false);
    sh('umount /proc/sys/net');
  });
});
