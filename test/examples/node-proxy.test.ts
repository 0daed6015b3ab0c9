// examples/node-proxy: one process, three pods on one bridge, which come and go.
import { execFile, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { inNamespace, sh } from '../fixtures/netns.ts';
import { startProgram } from '../fixtures/program.ts';

const script = fileURLToPath(new URL('../../examples/node-proxy/main.js', import.meta.url));

/** Says to whom it speaks; keeps the connections to its second port. */
const APPLICATION = `
import socket, threading
def serve(port, talk):
  s = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
  while True: talk(s.accept())
def tell(accepted):
  with accepted[0] as c: c.sendall(("you are " + accepted[1][0].replace("::ffff:", "") + "\\n").encode())
kept = []
threading.Thread(target=serve, args=(81, kept.append), daemon=True).start()
threading.Thread(target=serve, args=(80, tell), daemon=True).start()
print("up", flush=True)
threading.Event().wait()`;

async function inside(pod: string, command: string): Promise<string> {
  const args = ['netns', 'exec', pod, 'bash', '-c', command];
  const { stdout } = await promisify(execFile)('ip', args);
  return stdout;
}

await inNamespace(t, import.meta.url, async () => {
  sh('ip link add bridge type bridge && ip link set bridge up');
  const number = { a: 1, b: 2, c: 3 };
  const addPod = async (name: keyof typeof number): Promise<void> => {
    const n = number[name];
    sh(`
      ip netns add ${name}
      ip link add to-${name} type veth peer name eth0 netns ${name}
      ip link set to-${name} master bridge up
      ip -n ${name} link set lo up
      ip -n ${name} addr add 10.9.0.${n}/24 dev eth0
      ip -n ${name} addr add 2001:db8:9::${n}/64 dev eth0 nodad
      ip -n ${name} link set eth0 up`);
    await startProgram(t, 'ip', ['netns', 'exec', name, 'python3', '-c', APPLICATION], /up/);
  };
  await addPod('a');
  await addPod('b');
  const proxy = await startProgram(t, process.execPath, [script, '--grace', '200'], /"ready"/);
  const joined = (pod: string) => proxy.printed(new RegExp(`"joined","pod":"${pod}"`));
  await Promise.all([joined('a'), joined('b')]);

  await t.test('from pod to pod, through both; the application sees the client’s own address', async (t) => {
    t.equal(await inside('a', 'cat </dev/tcp/10.9.0.2/80'), 'you are 10.9.0.1\n');
    t.equal(await inside('b', 'cat </dev/tcp/2001:db8:9::1/80'), 'you are 2001:db8:9::2\n');
    t.ok(await proxy.printed(/"pod":"a","direction":"outbound","client":"10.9.0.1","to":"10.9.0.2 80"/));
    t.ok(await proxy.printed(/"pod":"b","direction":"inbound","client":"10.9.0.1","to":"10.9.0.2 80"/));
    t.ok(
      await proxy.printed(/"pod":"a","direction":"inbound","client":"2001:db8:9::2","to":"2001:db8:9::1 80"/),
    );
    t.equal(await inside('a', 'cat </dev/tcp/10.9.0.1/80'), 'you are 10.9.0.1\n', 'its own is its own');
  });

  await t.test('a pod that comes', async (t) => {
    await addPod('c');
    await joined('c');
    t.equal(await inside('c', 'cat </dev/tcp/10.9.0.1/80'), 'you are 10.9.0.3\n');
    t.ok(await proxy.printed(/"pod":"c","direction":"outbound","client":"10.9.0.3","to":"10.9.0.1 80"/));
  });

  await t.test('a pod that goes: what is open may end', async (t) => {
    const open = spawn('ip', [
      'netns',
      'exec',
      'c',
      'bash',
      '-c',
      'exec 3<>/dev/tcp/10.9.0.2/81; echo up; exec cat <&3',
    ]);
    await new Promise((done) => open.stdout.once('data', done));
    sh('ip netns delete c');
    t.ok(
      await proxy.printed(
        /"direction":"outbound","client":"10.9.0.3","to":"10.9.0.2 81".*"reason":"aborted"/,
      ),
    );
    t.ok(await proxy.printed(/"left","pod":"c"/));
    open.kill('SIGKILL');
    t.equal(await inside('a', 'cat </dev/tcp/10.9.0.2/80'), 'you are 10.9.0.1\n', 'the others go on');
  });

  await t.test('SIGTERM leaves pods as they were', async (t) => {
    proxy.child.kill('SIGTERM');
    await proxy.printed(/"done"/);
    t.equal(await inside('a', 'nft list tables'), '');
    t.equal(await inside('a', 'cat </dev/tcp/10.9.0.2/80'), 'you are 10.9.0.1\n');
  });
});
