// createCapture({ processes }): who has dialled, sent and asked.
import { once } from 'node:events';
import t from 'tap';
import type { CapturedFlow } from '../../lib/capture/index.ts';
import { NamePolicy } from '../../lib/index.ts';
import { ECHO, inCaptureWorld, PORT, startWorld, WEB } from '../fixtures/capture-world.ts';
import { capture, get, output } from '../fixtures/shell-captured.ts';

await inCaptureWorld(t, import.meta.url, async () => {
  await t.test('who has dialled', async (t) => {
    await startWorld(t);
    const inside = await capture(t, {
      processes: true,
      policy: new NamePolicy({ deny: [`${WEB.v4}:${PORT + 1}`, `${WEB.v4}:${ECHO + 1}/udp`, 'other.test'] }),
    });
    const seen: unknown[] = [];
    inside.on('relay', (_, __, ___, ____, process) => seen.push(process));
    const script = `${get(`${WEB.v4}:${PORT}`, '-o /dev/null')}; exec 3<>/dev/tcp/${WEB.v4}/${PORT + 1}; read -r <&3; echo $$`;
    const [, shell] = (await output(inside, script)).split('\n');
    t.match(seen, [{ command: ['curl', '-sS'], uid: process.geteuid!(), pid: Number }]);
    t.match(inside.denials, [{ protocol: 'tcp', process: { pid: Number(shell), command: ['bash', '-c'] } }]);

    const [flows, asked]: [CapturedFlow[], unknown[]] = [[], []];
    inside.on('datagrams', (flow) => flows.push(flow));
    inside.on('query', ({ question: { name }, protocol }, process) =>
      asked.push({ name, protocol, command: process?.command, pid: process?.pid }),
    );
    inside.denials.length = 0;
    const sender = `
import os, socket
for port in (${ECHO}, ${ECHO + 1}):
  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
  s.connect(("${WEB.v4}", port))
  s.send(b"x")
  try: s.recv(99)
  except ConnectionRefusedError: pass
for name in ("web.test", "other.test"):
  try: socket.getaddrinfo(name, 80, socket.AF_INET)
  except socket.gaierror: pass
print(os.getpid())`;
    const pid = Number(await output(inside, `python3 -c '${sender}'; dig +tcp web.test @192.0.2.1 >&2`));
    t.match(flows, [{ process: { pid, command: [/python3$/] } }]);
    t.match(inside.denials[0], { protocol: 'udp', process: { pid } });
    t.match(inside.denials[1], { protocol: 'dns', name: 'other.test', process: { pid } });
    t.match(asked[0], { name: 'web.test', protocol: 'udp', pid });
    t.match(asked.at(-1), { name: 'web.test', protocol: 'tcp', command: [/dig$/, '+tcp'] });

    const { namespace } = inside;
    const { fd } = namespace;
    const child = inside.spawn('bash', ['-c', `read; ${get(`${WEB.v4}:${PORT}`)}`], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    Object.defineProperty(namespace, 'fd', { value: 9999, configurable: true });
    child.stdin!.end('\n');
    await once(child, 'close');
    Object.defineProperty(namespace, 'fd', { value: fd });
    t.same(seen.slice(1), [undefined], 'where it cannot be asked, the connection goes on');
  });
});
