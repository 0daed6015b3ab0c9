// Whether eBPF capture can work, on machines that lack one thing each.
import t from 'tap';
import { ask, type Machine } from '../fixtures/fake-host.ts';

const GOOD: Record<string, string> = {
  '/proc/sys/kernel/osrelease': '5.14.0-1\n',
  '/proc/self/mountinfo': '40 32 0:35 / /sys/fs/cgroup rw - cgroup2 none rw\n',
  '/proc/self/status': 'CapEff:\t0000008000001000\n',
  '/proc/self/uid_map': '         0          0 4294967295\n',
};

t.test('ebpf-capture', async (t) => {
  const said = async (files: Record<string, string>, machine: Machine = {}) =>
    (await ask({ ...machine, files: { ...GOOD, ...files } }))('ebpf-capture');
  const can = [{ level: 'ok', title: 'eBPF capture can work here' }];
  t.match(await said({}), can, 'CAP_BPF and CAP_NET_ADMIN');
  t.match(await said({ '/proc/self/status': 'CapEff:\t0000000000200000\n' }), can, 'CAP_SYS_ADMIN');
  for (const [files, why] of [
    [{ '/proc/sys/kernel/osrelease': '5.10.0' }, /Linux 5\.10\.0 is older than 5\.14/],
    [{ '/proc/sys/kernel/osrelease': '4.19.0' }, /Linux 4\.19\.0/],
    [{ '/proc/self/status': 'CapEff:\t0000000000001000\n' }, /lacks CAP_BPF\./],
    [{ '/proc/self/status': '' }, /lacks CAP_NET_ADMIN and CAP_BPF\./],
    [{ '/proc/self/uid_map': '0 1000 1\n' }, /this is a user namespace/],
  ] as const) {
    t.match(await said(files), [{ level: 'ok', title: 'eBPF capture cannot work here', detail: why }]);
  }
  t.match(await said({ '/proc/self/mountinfo': '' }), [
    { detail: /cgroup v2 is not mounted\. Rules/, remedy: 'mount -t cgroup2 none /sys/fs/cgroup' },
  ]);
  t.match((await ask({}))('ebpf-capture'), [{ detail: /Linux  is older/ }], 'nothing can be read');
});
