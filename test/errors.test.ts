// The shape and the hints of errors.
import { constants } from 'node:os';
import t from 'tap';
import { codedError, systemError } from '../lib/errors.ts';

const { EACCES, EADDRINUSE, EEXIST, EINVAL, ENOBUFS, ENOENT, ENOTCONN, ENOPROTOOPT, EPERM, EPROTONOSUPPORT } =
  constants.errno;

t.test('systemError has the shape of Node’s own', async (t) => {
  const error = systemError(-EACCES, { syscall: 'bind', address: '192.0.2.1', port: 80 });
  t.match(error, {
    message: 'bind EACCES: permission denied 192.0.2.1:80',
    code: 'EACCES',
    errno: -EACCES,
    syscall: 'bind',
    address: '192.0.2.1',
    port: 80,
  });
  t.notOk('hint' in error);
  t.notMatch(error.stack!, /systemError/, 'the stack starts at the caller');

  const bare = systemError(-EACCES, { syscall: 'getsockname' });
  t.equal(bare.message, 'getsockname EACCES: permission denied');
  t.notOk('address' in bare || 'port' in bare);
  t.equal(
    systemError(-EACCES, { syscall: 'bind', address: '::1' }).message,
    'bind EACCES: permission denied ::1',
  );
  t.match(systemError(-4242, { syscall: 'bind' }), { code: 'E4242', message: 'bind E4242: unknown error' });
});

t.test('hints say what can be done', async (t) => {
  const hint = (errno: number, context: object): string | undefined =>
    systemError(errno, { syscall: 'setsockopt', ...context }).hint;
  t.match(hint(-EPERM, { option: 'IP_TRANSPARENT' }), /CAP_NET_ADMIN.*setpriv.*setcap/);
  t.match(hint(-EPERM, { option: 'SO_MARK' }), /^SO_MARK needs CAP_NET_ADMIN/);
  t.equal(hint(-EPERM, { option: 'SO_PRIORITY' }), undefined);
  t.match(hint(-ENOPROTOOPT, { option: 'SO_ORIGINAL_DST' }), /modprobe nf_conntrack/);
  t.match(hint(-ENOENT, { option: 'SO_ORIGINAL_DST' }), /flushed, timed out/);
  for (const [errno, text] of [
    [EPERM, /CAP_NET_ADMIN.*setpriv/],
    [ENOENT, /no entry for this flow/],
    [EEXIST, /several conntrack zones/],
    [EPROTONOSUPPORT, /modprobe nf_conntrack_netlink/],
    [EINVAL, /modprobe nf_conntrack_netlink/],
  ] as const) {
    t.match(hint(-errno, { option: 'IPCTNL_MSG_CT_GET' }), text);
  }
  t.equal(hint(-ENOBUFS, { option: 'IPCTNL_MSG_CT_GET' }), undefined);
  t.equal(hint(-EPERM, { option: 'IP_TRANSPARENT', hint: 'the caller’s' }), 'the caller’s');
  t.match(hint(-EADDRINUSE, { syscall: 'bind', address: '192.0.2.1', port: 80 }), /client’s port/);
  t.equal(hint(-EADDRINUSE, { syscall: 'bind', address: '192.0.2.1', port: 0 }), undefined);
  t.equal(hint(-EADDRINUSE, { syscall: 'listen', port: 80 }), undefined);
  const error = systemError(-ENOENT, { syscall: 'getsockopt', option: 'SO_ORIGINAL_DST' });
  t.match(error.message, `(${error.hint})`, 'the hint is in the message too');
});

t.test('why an answer of conntrack does not count', async (t) => {
  const discarded = systemError(-EADDRINUSE, { syscall: 'getsockopt', option: 'SO_ORIGINAL_DST' });
  t.match(discarded.hint, /segments have come to this connection’s socket/);
  t.match(systemError(-ENOTCONN, { syscall: 'getpeername' }).hint, /has been reset/);
  const subflow = { syscall: 'netlink', option: 'SOCK_DIAG_BY_FAMILY' };
  t.equal(systemError(-EADDRINUSE, subflow).hint, discarded.hint);
  t.match(systemError(-ENOTCONN, subflow).hint, /first subflow .* is over/);
});

t.test('codedError', async (t) => {
  const cause = new Error('why');
  const error = codedError('ERR_X', 'it failed', { hint: 'do that', base: RangeError, cause });
  t.type(error, RangeError);
  t.match(error, { code: 'ERR_X', message: 'it failed (do that)', hint: 'do that', cause });
  t.notMatch(error.stack!, /codedError/);
  const plain = codedError('ERR_Y', 'it failed');
  t.equal(plain.message, 'it failed');
  t.notOk('hint' in plain || 'cause' in plain);
});
