// Whether eBPF capture can work, on machines that lack one thing each.
import { readlinkSync } from 'node:fs';
import t from 'tap';
import { ask, type Machine } from '../fixtures/fake-host.ts';

const GOOD: Record<string, string> = {
  '/proc/sys/kernel/osrelease': '5.14.0-1\n',
  '/proc/self/mountinfo': '40 32 0:35 / /sys/fs/cgroup rw - cgroup2 none rw\n',
  '/proc/self/status': 'CapEff:\t0000008000001000\n',
  '/proc/self/uid_map': '         0          0 4294967295\n',
};

function inOrder(texts: string[]): RegExp {
  const literal = texts.map((text) => text.replaceAll(/[.()/?]/g, '\\$&'));
  return new RegExp(literal.join('.*'));
}

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
  const mount = t.testdir({ app: {}, 'memory.max': '' });
  const attached: Record<string, Record<number, number[]>> = {
    [mount]: { 10: [7], 21: [9] },
    [`${mount}/app`]: { 10: [8], 14: [8] },
  };
  const files = {
    '/proc/self/mountinfo': `40 32 0:35 / ${mount} rw - cgroup2 none rw\n`,
    [`${mount}/app/cgroup.procs`]: '',
    [`${mount}/memory.max`]: '',
    '/proc/812/comm': 'agent\n',
    '/proc/812/fd/5': 'anon_inode:bpf_link',
    '/proc/812/fdinfo/5': 'pos:\t0\nprog_id:\t8\n',
    '/proc/812/fd/6': 'socket:[8]',
    '/proc/9/fd/1': 'anon_inode:bpf-prog',
    '/proc/9/fd/2': 'anon_inode:bpf-prog',
    '/proc/9/fdinfo/2': 'prog_id:\t9\n',
    '/proc/uptime': '',
  };
  const native = {
    cgroupPrograms: (fd: number, place: number, effective: boolean): number[] | number => {
      const own = attached[readlinkSync(`/proc/self/fd/${fd}`)]![place] ?? [];
      return effective && place === 10 ? [...own, 6] : own;
    },
    programName: (program: number) => (program === 7 ? -1 : `name${program}`),
  };
  t.match(await said(files, { native }), [
    {
      level: 'ok',
      title: 'eBPF capture can work here, but for some cgroups',
      detail: inOrder([
        `There: program 7 at connect4 of ${mount}, held by no process that can be seen: it may be pinned.`,
        `There: program 9 (name9) at getsockopt of ${mount}, held by ? (9).`,
        `There: program 8 (name8) at connect4, sendmsg4 of ${mount}/app, held by agent (812).`,
        'There: program 6 (name6) at connect4 of a cgroup above, held by no process',
        'Those at getsockopt alone can answer',
      ]),
      remedy: 'bpftool cgroup tree',
    },
  ]);
  attached[mount] = attached[`${mount}/app`] = {};
  native.cgroupPrograms = () => -1;
  t.match(await said(files, { native }), can, 'the kernel does not tell');
  t.match(await said(files, { native: new Error('none') }), can, 'nor is there anybody to ask');
  t.match((await ask({}))('ebpf-capture'), [{ detail: /Linux  is older/ }], 'nothing can be read');
});
