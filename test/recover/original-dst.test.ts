// Where TypeScript decides: answers, errors, caches.
import { once } from 'node:events';
import * as http2 from 'node:http2';
import { createServer, Socket, type AddressInfo } from 'node:net';
import { constants } from 'node:os';
import t, { type Test } from 'tap';
import type { Binding } from '../../lib/addon.ts';
import { binding } from '../../lib/binding.ts';
import * as facts from '../../lib/recover/kernel-answer.ts';
import {
  createServer as interceptingServer,
  originalDst,
  recoverOriginalDst,
  type InterceptedSocket,
  type OriginalDst,
} from '../../lib/index.ts';
import { listenerAddress, recoverFromFd } from '../../lib/recover/original-dst.ts';
import { socketFd } from '../../lib/node/socket-fd.ts';
import { accepted, client, listening } from '../fixtures/connections.ts';
import { tcpListenerFd, udpFd, unixFd } from '../fixtures/descriptors.ts';
import { mockImport } from '../fixtures/mock.ts';
import { inNamespace, nft, sh } from '../fixtures/netns.ts';

/** What is recovered of a connection about which the kernel, and the addon, answer so. */
async function recovered(
  t: Test,
  answers: Partial<typeof facts>,
  native: Partial<Binding> = {},
): Promise<OriginalDst> {
  const module = (name: string): string => new URL(`../../lib/${name}.js`, import.meta.url).href;
  const { recoverFromFd } = await mockImport<typeof import('../../lib/recover/original-dst.ts')>(
    module('recover/original-dst'),
    {
      [module('binding')]: { binding: () => ({ __proto__: binding(), ...native }) },
      [module('recover/kernel-answer')]: { ...facts, ...answers },
    },
  );
  return recoverFromFd(await tcpListenerFd(t), undefined);
}

await inNamespace(t, import.meta.url, async () => {
  await t.test('recoverOriginalDst takes sockets only', async (t) => {
    for (const bad of [undefined, null, 5, 'socket', {}, createServer()] as unknown[] as Socket[]) {
      t.throws(() => recoverOriginalDst(bad), { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' });
    }
  });

  await t.test('decided once', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    const socket = await accepted(t, server, port, '127.0.0.1');
    t.equal(originalDst(socket), undefined, 'nobody has asked yet');
    const decided = recoverOriginalDst(socket);
    t.same(decided, { kind: 'direct', address: '127.0.0.1', port, family: 'IPv4' });
    socket.destroy();
    t.equal(recoverOriginalDst(socket), decided, 'and kept when the socket is closed');
    t.equal(originalDst(socket), decided);
  });

  await t.test('a closed socket that nobody had asked about', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    const socket = await accepted(t, server, port, '127.0.0.1');
    socket.destroy();
    t.match(recoverOriginalDst(socket), {
      kind: 'unknown',
      cause: { code: 'EBADF', syscall: 'getsockname' },
    });
    t.match(recoverOriginalDst(new Socket()), { kind: 'unknown', cause: { code: 'EBADF' } });
  });

  await t.test('originalDst of things that are no sockets', async (t) => {
    for (const none of [undefined, null, 5, {}, new Socket()] as object[])
      t.equal(originalDst(none), undefined);
  });

  await t.test('what another part of the program puts into Object.prototype decides nothing', async (t) => {
    const server = interceptingServer({ direct: 'reset' });
    const port = await listening(t, server);
    const spoofed = { kind: 'redirect', address: '203.0.113.66', port: 22, family: 'IPv4' };
    const everything = Object.getPrototypeOf({}) as object;
    const pollute = (name: string, value: unknown): void => {
      Object.defineProperty(everything, name, { value, configurable: true, writable: true });
      t.teardown(() => Reflect.deleteProperty(everything, name));
    };
    pollute('originalDst', spoofed);
    pollute('_parent', {});
    t.equal(originalDst(new Socket()), undefined);
    const from = client(t, port, '127.0.0.1');
    await new Promise((resolve) => from.once('close', resolve));
    t.match(server.interceptStats, { direct: 1, redirect: 0, reset: 1 });

    const telling = interceptingServer();
    const socket = await accepted<InterceptedSocket>(t, telling, await listening(t, telling), '127.0.0.1');
    t.match(socket.originalDst, { kind: 'direct', address: '127.0.0.1' });
    t.equal(originalDst(socket), socket.originalDst, 'and is there to be read');
  });

  await t.test('asked late, through the Proxy that http2 gives for a socket', async (t) => {
    const server = http2.createServer((request, response) => {
      const decided = recoverOriginalDst(request.socket);
      response.end(JSON.stringify([decided, recoverOriginalDst(request.socket) === decided]));
    });
    const port = await listening(t, server);
    const session = http2.connect(`http://127.0.0.1:${port}`);
    t.teardown(() => session.destroy());
    const [body] = (await once(session.request({ ':path': '/' }).setEncoding('utf8'), 'data')) as [string];
    t.same(JSON.parse(body), [{ kind: 'direct', address: '127.0.0.1', port, family: 'IPv4' }, true]);
  });

  await t.test('listenerAddress', async (t) => {
    t.equal(listenerAddress(undefined), undefined);
    const server = createServer();
    t.equal(listenerAddress(server), undefined, 'does not listen');
    await listening(t, server, { host: '127.0.0.1' });
    t.match(listenerAddress(server), { address: '127.0.0.1', port: (server.address() as AddressInfo).port });
  });

  await t.test('fds that are no TCP connection', async (t) => {
    t.match(recoverFromFd(-1, undefined), {
      kind: 'unknown',
      cause: { code: 'EBADF', syscall: 'getsockname' },
    });
    t.match(recoverFromFd(0, undefined), { kind: 'unknown', cause: { syscall: 'getsockname' } });
    t.match(recoverFromFd(await unixFd(t), undefined), { kind: 'unknown', cause: { code: 'EAFNOSUPPORT' } });
  });

  await t.test('a kernel without conntrack', async (t) => {
    // A UDP socket is answered as a TCP socket is there: ENOPROTOOPT.
    const fd = await udpFd(t);
    t.match(recoverFromFd(fd, undefined), {
      kind: 'unknown',
      cause: { code: 'ENOPROTOOPT', syscall: 'getsockopt', hint: /nf_conntrack/ },
    });
    sh('mount -t tmpfs tmpfs /proc/sys/net');
    t.match(recoverFromFd(fd, undefined), { kind: 'direct', address: '127.0.0.1' }, 'no conntrack, no NAT');
    sh('umount /proc/sys/net');
  });

  await t.test('no listener to compare with: the addresses of this host', async (t) => {
    const server = createServer();
    const port = await listening(t, server);
    const socket = await accepted(t, server, port, '127.0.0.1');
    t.match(recoverFromFd(socketFd(socket)!, undefined), { kind: 'direct', address: '127.0.0.1', port });
    sh('ip route add local 203.0.113.0/24 dev lo');
    const foreign = await accepted(t, server, port, '203.0.113.5');
    t.match(recoverFromFd(socketFd(foreign)!, undefined), { kind: 'tproxy', address: '203.0.113.5', port });
  });

  await t.test('whether conntrack is at work cannot be found out', async (t) => {
    const fd = await tcpListenerFd(t);
    nft(`table inet mute {
      chain output {
        type filter hook output priority 0
        meta l4proto { tcp, udp } drop
      }
    }`);
    t.match(recoverFromFd(fd, undefined), { kind: 'unknown', cause: { code: 'ENOENT' } });
    nft('delete table inet mute');
    t.match(recoverFromFd(fd, undefined), { kind: 'direct' });
  });

  await t.test('without the peer’s address a redirect cannot be told from a reversed entry', async (t) => {
    const { ENOTCONN } = constants.errno;
    const answers = { originalStatus: () => 0, sameEndpoint: () => false, peerStatus: () => -ENOTCONN };
    t.match(await recovered(t, answers), {
      kind: 'unknown',
      cause: { code: 'ENOTCONN', syscall: 'getpeername' },
    });
  });

  const discarded = {
    originalStatus: () => 0,
    peerStatus: () => 0,
    entryStatus: () => -constants.errno.EADDRINUSE,
    sameEndpoint: () => false,
  };

  await t.test('an entry that a discarded segment may have found says nothing', async (t) => {
    for (const same of [true, false]) {
      const sameEndpoint = (_: number, to: number): boolean => same && to === facts.Role.local;
      t.match(await recovered(t, { ...discarded, sameEndpoint }), {
        kind: 'unknown',
        cause: { code: 'EADDRINUSE', syscall: 'getsockopt' },
      });
    }
  });

  await t.test(
    'segments that were thrown away: conntrack’s word counts, where it may be asked',
    async (t) => {
      for (const [confirmed, expected] of [
        [0, { kind: 'redirect' }],
        [-constants.errno.EPERM, { kind: 'unknown', cause: { code: 'EADDRINUSE', syscall: 'getsockopt' } }],
      ] as const) {
        t.match(await recovered(t, discarded, { confirmEntry: () => confirmed }), expected);
      }
    },
  );

  await t.test('conntrack’s word for an entry counts while the first subflow is there', async (t) => {
    const { EADDRINUSE, ENOTCONN, EOPNOTSUPP } = constants.errno;
    for (const [later, expected] of [
      [EADDRINUSE, { kind: 'redirect' }],
      [ENOTCONN, { kind: 'unknown', cause: { code: 'ENOTCONN', syscall: 'netlink' } }],
    ] as const) {
      const checks = [-EADDRINUSE, -later];
      const answers = { originalStatus: () => -EOPNOTSUPP, peerStatus: () => 0, sameEndpoint: () => false };
      const native = {
        conntrackLookup: () => 60,
        checkMptcpEntry: () => checks.shift()!,
        confirmEntry: () => 0,
      };
      t.match(await recovered(t, answers, native), expected);
      t.same(checks, []);
    }
  });
});
