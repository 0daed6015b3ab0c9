// The socket by which conntrack is asked: whose is kept for the next question, and until when.
import { once } from 'node:events';
import type { AddressInfo, Socket } from 'node:net';
import t from 'tap';
import { binding } from '../../lib/binding.ts';
import { createServer, processOf, type Namespace } from '../../lib/index.ts';
import { withFd } from '../../lib/node/socket-fd.ts';
import { TCP } from '../../lib/recover/conntrack-entry.ts';
import { Role } from '../../lib/recover/kernel-answer.ts';
import { accepted, rules } from '../fixtures/connections.ts';
import { openSockets } from '../fixtures/descriptors.ts';
import { inNamespace } from '../fixtures/netns.ts';
import { connectInside, FAR, makePod, redirect } from '../fixtures/pod-namespace.ts';

/** All that may be asked about a connection; each answers. `keep`: as a datagram socket asks. */
function questions(socket: Socket): { confirm: () => number; lookup: (keep: boolean) => number } {
  const ask = (question: (fd: number) => number) => (): number =>
    withFd(socket, (fd) => {
      binding().readFacts(fd);
      return question(fd);
    })!;
  const { local, peer, original } = Role;
  return {
    confirm: ask((fd) => binding().confirmEntry(fd)),
    lookup: (keep) => ask((fd) => binding().conntrackLookup(TCP, 0, local, peer, original, fd, keep))(),
  };
}

await inNamespace(t, import.meta.url, async () => {
  const listen = async (namespace?: Namespace): Promise<ReturnType<typeof createServer>> => {
    const server = createServer();
    server.listen({ port: 0, ...(namespace && { namespace }) });
    await once(server, 'listening');
    t.teardown(() => server.close());
    return server;
  };

  await t.test('another namespace’s: for a datagram socket alone, until it says so', async (t) => {
    const pod = await makePod(t);
    const server = await listen(pod);
    await redirect(pod, { tcp: (server.address() as AddressInfo).port });
    const connection = once(server, 'connection') as Promise<[Socket]>;
    await connectInside(t, pod, FAR.v4, 80);
    const [socket] = await connection;
    const { confirm, lookup } = questions(socket);
    const before = openSockets();
    const askAll = (): void => {
      t.equal(confirm(), 0);
      t.ok(lookup(false) > 0);
      t.equal(processOf(socket)?.pid, process.pid);
      t.equal(processOf(socket, { namespace: pod })?.pid, process.pid);
    };
    askAll();
    t.same(openSockets(), before, 'questions about one connection keep none');
    t.ok(lookup(true) > 0);
    const kept = openSockets();
    t.equal(kept.length, before.length + 1);
    askAll();
    t.same(openSockets(), kept, 'and leave others theirs');
    binding().conntrackForget(pod.fd);
    t.same(openSockets(), before);
  });

  await t.test('this thread’s: from the first question on that is asked of many a connection', async (t) => {
    rules(t, 'inet', 'chain tracked {\n type filter hook input priority 0\n ct state new counter\n}');
    const server = await listen();
    const { port } = server.address() as AddressInfo;
    const { confirm, lookup } = questions(await accepted(t, server, port, '127.0.0.1'));
    const before = openSockets();
    t.equal(confirm(), 0);
    t.same(openSockets(), before, 'not of one that is seldom asked');
    t.ok(lookup(false) > 0);
    const kept = openSockets();
    t.equal(kept.length, before.length + 1);
    t.equal(confirm(), 0);
    t.ok(lookup(false) > 0);
    t.same(openSockets(), kept);
  });
});
