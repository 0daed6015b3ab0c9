// Options that are none, cgroups that are none, and what is said when the kernel refuses.
import { constants } from 'node:os';
import t from 'tap';
import { cgroupDirectory, cgroupIdentity, cgroupMount, isInside } from '../../lib/ebpf/cgroup.ts';
import { hasConnections } from '../../lib/ebpf/connections.ts';
import { attachError } from '../../lib/ebpf/failure.ts';
import { attachCapture, attachListener } from '../../lib/ebpf/index.ts';
import { unknownAlias } from '../../lib/recover/alias.ts';

const { EBUSY, EEXIST, EACCES, EINVAL, ENOPROTOOPT, ENOTCONN, EPERM, ESTALE } = constants.errno;

t.test('attachCapture', (t) => {
  const good = { cgroup: 'x', port: 15001 };
  for (const [options, code] of [
    [undefined, 'ERR_INVALID_ARG_TYPE'],
    [{ port: 15001 }, 'ERR_INVALID_ARG_TYPE'],
    [{ cgroup: 'x' }, 'ERR_INVALID_ARG_TYPE'],
    [{ ...good, port: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ ...good, ports: [1] }, 'ERR_INVALID_ARG_VALUE'],
    [{ ...good, families: [] }, 'ERR_INVALID_ARG_TYPE'],
    [{ ...good, families: ['IPX'] }, 'ERR_OUT_OF_RANGE'],
    [{ ...good, protocols: ['sctp'] }, 'ERR_OUT_OF_RANGE'],
    [{ ...good, pin: 7 }, 'ERR_INVALID_ARG_TYPE'],
    [{ ...good, token: 7 }, 'ERR_INVALID_ARG_TYPE'],
    [{ ...good, destinations: 8 }, 'ERR_OUT_OF_RANGE'],
    [{ ...good, destinations: 1000 }, 'ERR_OUT_OF_RANGE'],
    [{ ...good, exempt: { uids: 7 } }, 'ERR_INVALID_ARG_TYPE'],
    [{ ...good, exempt: { uids: Array.from({ length: 9 }, () => 1) } }, 'ERR_OUT_OF_RANGE'],
    [{ ...good, exempt: { uids: [-1] } }, 'ERR_OUT_OF_RANGE'],
    [{ ...good, exempt: { marks: ['7/0'] } }, 'ERR_OUT_OF_RANGE'],
    [{ ...good, include: { sources: [] } }, 'ERR_CAPTURE_MATCH'],
  ] as const) {
    t.throws(() => attachCapture(options as never), { code }, JSON.stringify(options));
  }
  t.end();
});

t.test('attachListener', (t) => {
  for (const [options, code] of [
    [null, 'ERR_INVALID_ARG_TYPE'],
    [{ ports: [80] }, 'ERR_INVALID_ARG_TYPE'],
    [{ ports: [80], tcp: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{ ports: [], tcp: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{ ports: [70_000], tcp: {} }, 'ERR_RULES_PORT'],
    [{ ports: [80], addresses: '::/0', tcp: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{ ports: [80], addresses: ['nowhere'], tcp: {} }, 'ERR_RULES_ADDRESS'],
    [{ ports: [80], sctp: {} }, 'ERR_INVALID_ARG_VALUE'],
    [{ ports: [80], tcp: {}, token: 7 }, 'ERR_INVALID_ARG_TYPE'],
  ] as const) {
    t.throws(() => attachListener(options as never), { code }, JSON.stringify(options));
  }
  t.end();
});

t.test('cgroups', (t) => {
  const line = (root: string, point: string, type: string): string =>
    `40 32 0:35 ${root} ${point} rw,nosuid - ${type} cgroup2 rw`;
  t.equal(
    cgroupMount(
      [line('/', '/a', 'cgroup'), line('/x', '/b', 'cgroup2'), line('/', '/c', 'cgroup2')].join('\n'),
    ),
    '/c',
  );
  t.throws(() => cgroupMount(''), { code: 'ERR_CAPTURE_CGROUP', hint: /mount -t cgroup2/ });
  const mount = cgroupMount();
  t.equal(cgroupDirectory(''), mount);
  t.equal(cgroupDirectory(mount), mount);
  t.throws(() => cgroupDirectory('none/of/these'), { code: 'ERR_CAPTURE_CGROUP', hint: /mkdir/ });
  t.throws(() => cgroupDirectory('cgroup.procs'), { code: 'ERR_CAPTURE_CGROUP' }, 'a file');
  t.match(cgroupIdentity(mount, 'cgroup:[4026531835]'), { level: 0 });
  t.throws(() => cgroupIdentity(mount, 'cgroup:[1]'), {
    code: 'ERR_CAPTURE_CGROUP',
    hint: /a uid or a mark/,
  });
  t.ok(isInside(`${mount}/a`, '1:cpu:/z\n0::/a/b\n'));
  t.ok(isInside(`${mount}/a`, '0::/a\n'));
  t.notOk(isInside(`${mount}/a`, '0::/ab\n'));
  t.notOk(isInside(`${mount}/a`, ''));
  t.end();
});

t.test('sockets at aliases', (t) => {
  const row = (local: string, state = '01'): string[] => [
    `  0: ${local}:3A99 0100007F:8000 ${state} 0\n`,
    '',
  ];
  t.ok(hasConnections(15001, row('0500807F')));
  t.ok(hasConnections(15001, row('FFFFFF7F')));
  t.ok(hasConnections(15001, row('0000000000000000FFFF00000500807F')), 'IPv4, of a socket for both');
  t.ok(hasConnections(15001, row('57D00DFD993A00000000000001000000')));
  t.notOk(hasConnections(15001, row('0500007F')), '127.0.0.5');
  t.notOk(hasConnections(15001, row('57D00DFD9A3A00000000000001000000')), 'another port’s');
  t.notOk(hasConnections(15002, row('0500807F')));
  t.notOk(hasConnections(15001, row('0500807F', '06')), 'TIME_WAIT');
  t.notOk(hasConnections(15001));
  t.end();
});

t.test('the kernel refuses', (t) => {
  t.match(attachError([-EPERM, 'BPF_MAP_CREATE config', '']), {
    code: 'EPERM',
    errno: -EPERM,
    syscall: 'bpf',
    message: /^bpf BPF_MAP_CREATE config EPERM/,
    hint: /CAP_BPF and CAP_NET_ADMIN/,
  });
  t.match(attachError([-EPERM, 'BPF_TOKEN_CREATE', '']), { hint: /CAP_BPF in this user namespace/ });
  for (const [step, feature] of [
    ['BPF_TOKEN_CREATE', 'BPF tokens (Linux 6.9)'],
    ['BPF_MAP_CREATE aliases', 'can be mapped (Linux 5.5)'],
    ['BPF_MAP_CREATE trie6', 'tries (Linux 4.11'],
    ['BPF_MAP_CREATE config', 'bpf(2) (CONFIG_BPF_SYSCALL)'],
    ['BPF_PROG_LOAD connect4', 'atomic operations in BPF programs (Linux 5.12)'],
    ['BPF_PROG_LOAD getpeername6', '(Linux 5.8)'],
    ['BPF_LINK_CREATE recvmsg4', '(Linux 5.2)'],
    ['BPF_LINK_CREATE connect4', 'CONFIG_CGROUP_BPF'],
    ['BPF_LINK_UPDATE connect4', '(Linux 5.7)'],
    ['BPF_PROG_LOAD lookup', 'sk_lookup (Linux 5.9)'],
    ['BPF_LINK_CREATE sk_lookup', 'sk_lookup (Linux 5.9)'],
  ] as const) {
    t.ok(attachError([-EINVAL, step, '']).hint!.includes(feature), step);
  }
  t.match(attachError([-ENOPROTOOPT, 'getsockopt SO_NETNS_COOKIE', '']), {
    syscall: 'getsockopt',
    hint: /Linux 5\.14/,
  });
  t.match(attachError([-EINVAL, 'BPF_PROG_LOAD connect4', 'R1 is bad\nprocessed 3 insns\n']), {
    hint: /; the verifier: R1 is bad \| processed 3 insns$/,
  });
  t.match(attachError([-EACCES, 'BPF_PROG_LOAD connect4', 'R1 is bad']), { hint: 'the verifier: R1 is bad' });
  t.match(attachError([-EACCES, 'fstat cgroup', '']), { syscall: 'fstat', hint: undefined });
  t.match(attachError([-EPERM, 'netlink RTM_NEWROUTE', '']), { syscall: 'netlink', hint: /CAP_NET_ADMIN/ });
  t.match(attachError([-EBUSY, 'BPF_PROG_QUERY connect4', '42']), { code: 'ERR_CAPTURE_STACKED' });
  t.match(attachError([-EEXIST, 'BPF_OBJ_GET version', ''], { pin: '/x' }), { code: 'ERR_CAPTURE_PINNED' });
  t.match(attachError([-EBUSY, 'BPF_OBJ_PIN connect4', '']), { code: 'EBUSY', syscall: 'bpf' });
  t.match(attachError([-EEXIST, 'BPF_OBJ_PIN connect4', '']), { code: 'EEXIST' });
  t.end();
});

t.test('aliases of which it is not known what they stand for', (t) => {
  t.match(unknownAlias(-EACCES), { kind: 'unknown', cause: { code: 'ERR_ALIAS_DIALLED' } });
  t.match(unknownAlias(-ESTALE), { kind: 'unknown', cause: { code: 'ERR_ALIAS_REUSED' } });
  t.match(unknownAlias(-ENOTCONN), { cause: { code: 'ENOTCONN', syscall: 'getpeername' } });
  t.end();
});
