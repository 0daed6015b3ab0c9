// createCapture(): whatever a program sends comes to the policy, and goes on from outside.
import { createSocket } from 'node:dgram';
import { EventEmitter, once } from 'node:events';
import t from 'tap';
import { createCapture } from '../../lib/capture/index.ts';
import { hostResolver } from '../../lib/capture/resolver.ts';
import { captureAll, checkTools, openRefusals } from '../../lib/capture/setup.ts';
import { type CapturedFlow, UdpRelay } from '../../lib/capture/udp-relay.ts';
import { NamePolicy } from '../../lib/index.ts';
import { capture, get, output } from '../fixtures/shell-captured.ts';
import { ECHO, inCaptureWorld, OTHER, packetsOut, PORT, startWorld, WEB } from '../fixtures/capture-world.ts';

const udp = (address: string, patience = 20): string =>
  `exec 3<>/dev/udp/${address}/${ECHO}; echo -n hi >&3; read -r -t ${patience} -N 10 -u 3 answer; echo "$? $answer"`;

/** Of a connected socket to which nobody answers but ICMP: `read` fails at once (1), and not after 20 seconds (142). */
const refused = (address: string, port: number): string =>
  `exec 3<>/dev/udp/${address}/${port}; echo -n hi >&3; read -r -t 20 -N 10 -u 3 answer 2>/dev/null; echo "$? $answer"`;

await inCaptureWorld(t, import.meta.url, async () => {
  await t.test(
    'TCP of both families, by name and without, whichever resolver the program asks',
    async (t) => {
      const world = await startWorld(t);
      const inside = await capture(t);
      const seen: unknown[] = [];
      inside.on('relay', (_, destination, client, name) => seen.push({ destination, client, name }));
      const answer = (host: string) => `hello from ${host}\n0\n`;
      t.equal(await output(inside, get(`web.test:${PORT}`, '-4')), answer(`web.test:${PORT}`));
      t.equal(await output(inside, get(`web.test:${PORT}`, '-6')), answer(`web.test:${PORT}`));
      t.equal(await output(inside, get(`${OTHER}:${PORT}`)), answer(`${OTHER}:${PORT}`));
      t.match(seen, [
        {
          name: 'web.test',
          destination: { kind: 'redirect', address: WEB.v4 },
          client: { address: '192.0.0.8' },
        },
        { name: 'web.test', destination: { address: WEB.v6, port: PORT } },
        { name: undefined, destination: { address: OTHER } },
      ]);
      t.ok(
        world.asked.includes('web.test'),
        'the resolver of the host was asked, which is on its loopback interface',
      );
    },
  );

  await t.test(
    'a policy: by name, by address, and not by the name that is claimed for another’s address',
    async (t) => {
      const world = await startWorld(t);
      const inside = await capture(t, { policy: new NamePolicy({ allow: ['web.test'] }), inspect: {} });
      const queries: string[] = [];
      inside.on('query', ({ outcome }) => queries.push(outcome));
      t.match(await output(inside, get(`web.test:${PORT}`, '-4')), 'hello');
      t.notMatch(await output(inside, get(`other.test:${PORT}`)), 'hello');
      t.notMatch(await output(inside, get(`${OTHER}:${PORT}`)), 'hello');
      t.notMatch(await output(inside, get(`${OTHER}:${PORT}`, '-H "Host: web.test"')), 'hello');
      t.equal(await output(inside, refused(OTHER, ECHO)), '1 \n');
      t.match(
        inside.denials.filter(({ protocol }) => protocol !== 'dns'),
        [
          { protocol: 'tcp', destination: { address: OTHER, port: PORT }, because: 'unnamed: deny' },
          { protocol: 'tcp', name: 'web.test', destination: { address: OTHER } },
          { protocol: 'udp', destination: { address: OTHER, port: ECHO } },
        ],
      );
      t.match(
        inside.denials.find(({ protocol }) => protocol === 'dns'),
        { name: 'other.test' },
      );
      t.same(new Set(queries), new Set(['forwarded', 'refused']));
      t.same(world.connections, [WEB.v4], 'nothing else has left');
      t.notOk(world.asked.includes('other.test'));
    },
  );

  await t.test('a policy: by protocol, in the words of what was found', async (t) => {
    const world = await startWorld(t);
    const rules = ['http2', 'silent', 'other'].map((protocol) => `${WEB.v4}/${protocol}`);
    const policy = new NamePolicy({ deny: rules });
    const inside = await capture(t, { policy, inspect: { timeout: 20_000 } });
    const say = (bytes: string) =>
      `python3 -c 'import socket; s = socket.create_connection(("${WEB.v4}", ${PORT})); s.send(${bytes}); s.shutdown(1); s.recv(1)'`;
    await output(inside, get(`${WEB.v4}:${PORT}`, '--http2-prior-knowledge'));
    await output(inside, say('b""'));
    await output(inside, say('b"SSH-2.0-x\\r\\n"'));
    t.same(
      inside.denials.map(({ because }) => because),
      rules.map((rule) => `deny ${rule}`),
    );
    t.match(await output(inside, get(`${WEB.v4}:${PORT}`)), 'hello');
    t.same(world.connections, [WEB.v4], 'nothing else has left');
    const unseen = await capture(t, { policy: new NamePolicy({ deny: [`${WEB.v4}/tcp`] }) });
    await output(unseen, get(`${WEB.v4}:${PORT}`));
    t.match(unseen.denials, [{ because: `deny ${WEB.v4}/tcp` }], 'nobody has looked');
  });

  await t.test('nothing leaves but by the policy', async (t) => {
    const inside = await capture(t, {
      policy: new NamePolicy({ allow: ['198.51.100.7:9', '[2001:db8::7]:9'] }),
    });
    const send = (host: string) => `
import socket
for host in ${host}:
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  raw = [(socket.SOCK_DGRAM, p) for p in (1, 58, 136)] + [(socket.SOCK_STREAM, 132), (socket.SOCK_RAW, 47)]
  for kind, protocol in [(socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0), (socket.SOCK_DGRAM, 0)] + raw:
    try:
      s = socket.socket(family, kind, protocol); s.settimeout(0.05); s.connect((host, 9)); s.send(b"x")
    except OSError: pass
print("sent")`;
    const python = async (script: string): Promise<void> => {
      t.equal(await output(inside, `python3 -c '${script}'`), 'sent\n');
    };
    await python(send('["198.51.100.8", "2001:db8::8", "224.0.0.1", "255.255.255.255", "ff02::1"]'));
    t.equal(packetsOut(), 0);
    t.ok(inside.denials.length >= 6);
    await python(send('["198.51.100.7", "2001:db8::7"]'));
    // Each goes on from out here, which may be after its sender has given up.
    for (let i = 0; i < 500 && packetsOut() < 4; i++) await new Promise((done) => setTimeout(done, 10));
    t.ok(packetsOut() >= 4, 'a SYN and a datagram of each family');
  });

  await t.test('decide has the last word; without DNS a name is what the client says', async (t) => {
    await startWorld(t);
    const seen: (string | undefined)[] = [];
    const inside = await capture(t, {
      dns: false,
      inspect: {},
      policy: new NamePolicy({ deny: ['evil.test'] }),
      decide: (_, __, first) => {
        seen.push(first?.name);
        return first?.name === 'no.test' ? 'reset' : 'relay';
      },
    });
    t.match(await output(inside, get(`${OTHER}:${PORT}`, '-H "Host: yes.test"')), 'hello');
    t.notMatch(await output(inside, get(`${OTHER}:${PORT}`, '-H "Host: no.test"')), 'hello');
    t.notMatch(await output(inside, get(`${OTHER}:${PORT}`, '-H "Host: evil.test"')), 'hello');
    t.same(seen, ['yes.test', 'no.test']);
    t.match(inside.denials, [{ name: 'evil.test', because: 'deny evil.test' }]);
    t.equal(
      await output(inside, 'getent ahosts web.test'),
      '',
      'there is no resolver at its own loopback address',
    );
  });

  await t.test('UDP: relayed by flow, or refused at once, as all else', async (t) => {
    await startWorld(t);
    const inside = await capture(t);
    const flows: CapturedFlow[] = [];
    inside.on('datagrams', (flow) => flows.push(flow));
    t.equal(await output(inside, udp(WEB.v4)), '0 echo of hi\n');
    t.equal(await output(inside, udp(WEB.v6)), '0 echo of hi\n');
    t.equal(await output(inside, refused(WEB.v4, 9)), '1 \n', 'where nobody listens');
    t.equal(await output(inside, refused(WEB.v6, 9)), '1 \n');
    t.match(flows.slice(0, 2), [
      { destination: { address: WEB.v4, port: ECHO }, bytesToUpstream: 2, bytesToClient: 10 },
      { destination: { address: WEB.v6 } },
    ]);
    const rejecting = await capture(t, { udp: 'reject', dns: { upstream: { address: '127.0.0.53' } } });
    const began = performance.now();
    t.equal(await output(rejecting, `exec 3<>/dev/udp/${WEB.v4}/${ECHO}; echo hi >&3; echo $?`), '1\n');
    t.ok(performance.now() - began < 15_000, 'at once');
  });

  await t.test('localhost: another one in there, with ways through', async (t) => {
    await startWorld(t);
    const inside = await capture(t);
    t.notMatch(await output(inside, get(`127.0.0.1:${PORT}`)), 'hello');
    await inside.hostPort(PORT);
    await inside.hostPort(81, PORT);
    t.match(await output(inside, get(`127.0.0.1:${PORT}`)), 'hello');
    t.match(await output(inside, get('localhost:81')), 'hello');
    const script =
      'require("net").createServer((s) => s.end("from inside")).listen(9999, () => console.log("up"))';
    const server = inside.spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(server.stdout!, 'data');
    await inside.publish(9999);
    t.equal(await output(undefined, 'cat </dev/tcp/127.0.0.1/9999'), 'from inside');
    await t.rejects(inside.publish(9999), { code: 'EADDRINUSE' });
    server.kill();
    await once(server, 'exit');
  });

  await t.test('when it is closed, what still runs in there reaches nobody', async (t) => {
    await startWorld(t);
    const inside = await createCapture();
    const script = `exec 3<>/dev/tcp/${WEB.v4}/${PORT + 1}; echo up; read -r <&3; echo over; ${get(`${WEB.v4}:${PORT}`)}`;
    const child = inside.spawn('bash', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout!.setEncoding('utf8').on('data', (more: string) => (text += more));
    await once(child.stdout!, 'data');
    await inside.close();
    await inside[Symbol.asyncDispose]();
    await once(child, 'close');
    t.equal(text, 'up\nover\n7\n');
  });

  await t.test('a policy that throws, and resolvers that are not there, are told', async (t) => {
    await startWorld(t);
    const inside = await createCapture({
      decide: () => {
        throw new Error('no idea');
      },
    });
    t.teardown(() => inside.close());
    const error = once(inside, 'error');
    await output(inside, get(`${WEB.v4}:${PORT}`));
    t.match(await error, [{ message: 'no idea' }]);
  });

  await t.test('what it cannot be told', async (t) => {
    for (const [bad, code] of [
      [null, 'ERR_INVALID_ARG_TYPE'],
      [{ ports: [80] }, 'ERR_INVALID_ARG_VALUE'],
      [{ policy: {} }, 'ERR_INVALID_ARG_TYPE'],
      [{ decide: 1 }, 'ERR_INVALID_ARG_TYPE'],
      [{ dns: 1 }, 'ERR_INVALID_ARG_TYPE'],
      [{ dns: null }, 'ERR_INVALID_ARG_TYPE'],
      [{ udp: 'drop' }, 'ERR_OUT_OF_RANGE'],
      [{ processes: 1 }, 'ERR_INVALID_ARG_TYPE'],
      [{ dns: { upstream: { address: 'resolver' } } }, 'ERR_INVALID_ARG_TYPE'],
    ] as const) {
      await t.rejects(createCapture(bad as never), { code }, JSON.stringify(bad));
    }
  });

  await t.test('what is missing is named, with the command that brings it', async (t) => {
    t.throws(() => checkTools(() => undefined), {
      code: 'ERR_CAPTURE_SETUP',
      hint: 'sudo apt-get install nftables iproute2 util-linux',
    });
    const namespace = {
      run: () => Promise.resolve({ status: 1, stdout: '', stderr: 'Operation not supported\n' }),
    };
    await t.rejects(captureAll(namespace as never, { tcp: 1, dns: undefined, udp: undefined }), {
      code: 'ERR_CAPTURE_SETUP',
      message: /^ip -batch - failed in the namespace: Operation not supported/,
      hint: /modprobe/,
    });
    t.throws(() => openRefusals({ fd: 9999 } as never), { code: 'EBADF', syscall: 'socket' });
    t.same(hostResolver(), { address: '127.0.0.53' });
    t.equal(hostResolver('/nowhere'), 'original');
    t.equal(hostResolver('/proc/self/status'), 'original');
    const file = t.testdir({ 'resolv.conf': '# nameserver 1.1.1.1\nnameserver what\n nameserver ::1\n' });
    t.same(hostResolver(`${file}/resolv.conf`), { address: '::1' });
  });

  await t.test('flows of datagrams end: idle ones, refused ones, the oldest of too many', async (t) => {
    const sink = createSocket('udp4').bind(0, '127.0.0.1');
    await once(sink, 'listening');
    t.teardown(() => sink.close());
    const inside = Object.assign(new EventEmitter(), { close: () => {}, reply: () => undefined });
    const flows: CapturedFlow[] = [];
    const refusals: unknown[] = [];
    const relay = new UdpRelay(
      { status: 0, send: (...about) => refusals.push(about), close: () => {} },
      inside as never,
      (destination, client) => {
        const flow = {
          destination,
          client,
          name: undefined,
          process: undefined,
          bytesToUpstream: 0,
          bytesToClient: 0,
        };
        return flows.push(flow) > 4 ? undefined : flow;
      },
      { flows: 2, idleMs: 1000 },
    );
    const send = (port: number, kind = 'redirect'): boolean =>
      inside.emit('message', Buffer.from('x'), {
        kind,
        size: 1,
        source: { address: '192.0.0.8', port, family: 'IPv4' },
        destination: { address: '127.0.0.1', port: sink.address().port, family: 'IPv4' },
      });
    send(1, 'direct');
    for (const port of [1, 2, 3]) send(port);
    t.equal(flows.length, 3);
    await new Promise((done) => setTimeout(done, 10));
    send(3);
    t.equal(flows.length, 3);
    send(1);
    t.equal(flows.length, 4, 'the first has made room, and is a new flow');
    await new Promise((done) => setTimeout(done, 2500));
    send(1);
    t.equal(flows.length, 5, 'all are over');
    t.same(refusals, [['192.0.0.8', 1, '127.0.0.1', sink.address().port, 1]]);
    relay.close();
  });
});
