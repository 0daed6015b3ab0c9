// The system calls on bare descriptors.
import { constants } from 'node:os';
import t from 'tap';
import {
  getOriginalDst,
  getTransparent,
  setBindAddressNoPort,
  setFreebind,
  setMark,
  setTransparent,
} from '../lib/index.ts';
import { closedFd, fileFd, tcpListenerFd, udpFd, unixFd } from './fixtures/descriptors.ts';
import { mockImport } from './fixtures/mock.ts';
import { inNamespace } from './fixtures/netns.ts';
import { rerunUnprivileged, unprivileged } from './fixtures/unprivileged.ts';

type Raw = (fd: number) => unknown;
const functions: Record<string, Raw> = {
  getOriginalDst,
  getTransparent,
  setTransparent,
  setFreebind,
  setBindAddressNoPort,
  setMark: (fd) => setMark(fd, 1),
};

async function badInput(): Promise<void> {
  for (const [name, call] of Object.entries(functions)) {
    await t.test(`${name}: bad descriptors`, async (t) => {
      for (const bad of [-1, 2 ** 31, 2 ** 32, 1e300, 0.5, NaN, Infinity, -Infinity]) {
        t.throws(
          () => call(bad),
          { name: 'RangeError', code: 'ERR_OUT_OF_RANGE', message: /"fd"/ },
          String(bad),
        );
      }
      for (const bad of ['3', '', null, undefined, {}, [], [3], true, 3n, Symbol('fd'), () => 3]) {
        t.throws(() => call(bad as number), {
          name: 'TypeError',
          code: 'ERR_INVALID_ARG_TYPE',
          message: /"fd"/,
        });
      }
      const syscall = /^[gs]etsockopt$/;
      t.throws(() => call(closedFd()), { code: 'EBADF', syscall });
      t.throws(() => call(2 ** 31 - 1), { code: 'EBADF', syscall });
      t.throws(() => call(fileFd(t, '/')), { code: 'ENOTSOCK', syscall }, 'a directory');
      t.throws(() => call(fileFd(t, '/dev/null')), { code: 'ENOTSOCK', syscall }, 'a device');
    });
  }

  t.test('no arguments at all', async (t) => {
    for (const [name, call] of Object.entries({ ...functions, setMark })) {
      t.throws(() => (call as () => void)(), { code: 'ERR_INVALID_ARG_TYPE', message: /"fd"/ }, name);
    }
    t.throws(() => (setMark as (fd: number) => void)(0), { code: 'ERR_INVALID_ARG_TYPE', message: /"mark"/ });
  });

  t.test('the second argument', async (t) => {
    const fd = await tcpListenerFd(t);
    for (const bad of [1, 0, 'true', null, {}] as unknown[] as boolean[]) {
      for (const call of [setTransparent, setFreebind, setBindAddressNoPort]) {
        t.throws(() => call(fd, bad), { code: 'ERR_INVALID_ARG_TYPE', message: /"on"/ });
      }
    }
    for (const bad of [-1, 2 ** 32, 0.5, NaN]) t.throws(() => setMark(fd, bad), { code: 'ERR_OUT_OF_RANGE' });
    for (const bad of ['1', null, true, 1n] as unknown[] as number[]) {
      t.throws(() => setMark(fd, bad), { code: 'ERR_INVALID_ARG_TYPE', message: /"mark"/ });
    }
  });

  t.test('sockets that are not of the internet', async (t) => {
    const fd = await unixFd(t);
    for (const name of Object.keys(functions).filter((name) => name !== 'setMark')) {
      t.throws(
        () => functions[name]!(fd),
        { name: 'TypeError', code: 'ERR_INVALID_FD_TYPE', message: /is a socket of family 1, type 1/ },
        name,
      );
    }
  });

  t.test('UDP has no original destination to give', async (t) => {
    for (const address of ['127.0.0.1', '::1']) {
      const fd = await udpFd(t, address);
      t.throws(() => getOriginalDst(fd), {
        code: 'ERR_INVALID_FD_TYPE',
        message: `getOriginalDst needs a TCP socket; fd ${fd} is a UDP socket`,
      });
      t.equal(getTransparent(fd), false);
    }
  });

  t.test('a socket that nobody has connected has none', async (t) => {
    t.equal(getOriginalDst(await tcpListenerFd(t)), null);
    t.equal(getOriginalDst(await tcpListenerFd(t, '::1')), null);
  });

  t.test('without rights', async (t) => {
    for (const address of ['127.0.0.1', '::1']) {
      for (const fd of [await tcpListenerFd(t, address), await udpFd(t, address)]) {
        setFreebind(fd);
        setFreebind(fd, false);
        setBindAddressNoPort(fd);
        setBindAddressNoPort(fd, false);
        setTransparent(fd, false);
        t.equal(getTransparent(fd), false);
      }
    }
  });
}

async function withRights(): Promise<void> {
  for (const address of ['127.0.0.1', '::1']) {
    await t.test(`with CAP_NET_ADMIN, ${address}`, async (t) => {
      for (const fd of [await tcpListenerFd(t, address), await udpFd(t, address)]) {
        t.equal(getTransparent(fd), false);
        setTransparent(fd);
        t.equal(getTransparent(fd), true);
        setTransparent(fd, false);
        t.equal(getTransparent(fd), false);
        setTransparent(fd, true);
        t.equal(getTransparent(fd), true);
        setMark(fd, 0);
        setMark(fd, 1337);
        setMark(fd, 2 ** 32 - 1);
      }
    });
  }

  await t.test('SO_MARK on a socket of any kind', async (t) => {
    setMark(await unixFd(t), 7);
    t.pass();
  });

  await t.test('a kernel that answers otherwise than documented', async (t) => {
    const { ENOTCONN, ENOPROTOOPT, EOPNOTSUPP, EINVAL } = constants.errno;
    let status = -ENOTCONN;
    const mocked = await mockImport<typeof import('../lib/raw-fd.ts')>(
      new URL('../lib/raw-fd.js', import.meta.url).href,
      {
        [new URL('../lib/binding.js', import.meta.url).href]: {
          binding: () => ({
            getOriginalDst: () => status,
            getTransparent: () => status,
            setFreebind: () => status,
            socketKind: () => [2, 1, 6],
          }),
        },
      },
    );
    t.throws(() => mocked.getOriginalDst(5), { code: 'ENOTCONN', syscall: 'getsockopt' });
    status = -EINVAL;
    t.throws(() => mocked.getTransparent(5), { code: 'EINVAL', syscall: 'getsockopt' });
    // A TCP socket, and still no option: no conntrack in this kernel, or MPTCP.
    status = -ENOPROTOOPT;
    t.equal(mocked.getOriginalDst(5), null);
    t.throws(() => mocked.setFreebind(5), { code: 'ENOPROTOOPT', syscall: 'setsockopt' });
    status = -EOPNOTSUPP;
    t.equal(mocked.getOriginalDst(5), null);
  });

  rerunUnprivileged(t, import.meta.url);
}

async function refused(): Promise<void> {
  for (const address of ['127.0.0.1', '::1']) {
    t.test(address, async (t) => {
      const fd = await tcpListenerFd(t, address);
      const hint = /CAP_NET_ADMIN.*setpriv --inh-caps=\+net_admin.*setcap cap_net_admin\+ep/;
      t.throws(() => setTransparent(fd), {
        code: 'EPERM',
        syscall: 'setsockopt',
        hint,
        message: /IP_TRANSPARENT/,
      });
      t.throws(() => setMark(fd, 1), { code: 'EPERM', syscall: 'setsockopt', hint, message: /SO_MARK/ });
      t.equal(getTransparent(fd), false);
      setFreebind(fd);
      setBindAddressNoPort(fd);
    });
  }
}

if (unprivileged) {
  await refused();
} else {
  if (!process.env['ORIGINAL_DST_IN_NAMESPACE']) await badInput();
  await inNamespace(t, import.meta.url, withRights);
}
